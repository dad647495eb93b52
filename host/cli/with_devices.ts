/**
 * Opens devices for a command and closes them whatever happens.
 */
import type { Device, OpenDeviceOptions } from '../env/device.js';
import type { Env } from '../env/env.js';

/** A device to open: its path and how. */
export interface DeviceToOpen {
  path: string;
  opts: OpenDeviceOptions;
}

/** Exclusive and writable: nobody on this host may have the device open. */
export function forChange(path: string): DeviceToOpen {
  return { path, opts: { exclusive: true } };
}

export function forReading(path: string): DeviceToOpen {
  return { path, opts: { readOnly: true } };
}

/** Opens all devices in order, runs `fn` with them, closes them. @throws what opening throws */
export async function withDevices<T>(env: Env, wanted: readonly DeviceToOpen[],
  fn: (devices: Device[]) => Promise<T>): Promise<T> {
  const open: Device[] = [];
  try {
    for (const { path, opts } of wanted) open.push(await env.openDevice(path, opts));
    return await fn(open);
  } finally {
    for (const dev of open) await dev.close();
  }
}

/** Runs `fn` with a metadata and a data device. */
export function withPair<T>(env: Env, meta: DeviceToOpen, data: DeviceToOpen,
  fn: (meta: Device, data: Device) => Promise<T>): Promise<T> {
  return withDevices(env, [meta, data], ([m, d]) => fn(m as Device, d as Device));
}

/** Runs `fn` with one device. */
export function withDevice<T>(env: Env, wanted: DeviceToOpen,
  fn: (dev: Device) => Promise<T>): Promise<T> {
  return withDevices(env, [wanted], ([dev]) => fn(dev as Device));
}
