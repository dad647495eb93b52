/**
 * Image files as devices, and a device that notes what is written to it.
 */
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Device } from '../../host/env/device.js';
import { openDevice } from '../../host/env/device.js';

/** Makes a sparse file of `sizeBytes` and returns its path. */
export function imageFile(dir: string, name: string, sizeBytes: number): string {
  const path = join(dir, name);
  const fd = openSync(path, 'w');
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
  return path;
}

/** A fresh sparse image, open for writing. */
export function imageDevice(dir: string, name: string, sizeBytes: number): Promise<Device> {
  return openDevice(imageFile(dir, name, sizeBytes));
}

export interface Recorded {
  device: Device;
  /** `<offset>+<length>` of every write, and `flush`, in order. */
  log: string[];
}

/** Wraps a device and notes its writes. */
export function recorded(dev: Device): Recorded {
  const log: string[] = [];
  const device: Device = {
    path: dev.path, sizeBytes: dev.sizeBytes, isBlockDevice: dev.isBlockDevice,
    majMin: dev.majMin,
    read: (o, b) => dev.read(o, b),
    readSync: (o, b) => { dev.readSync(o, b); },
    write: (o, b) => {
      log.push(`${o}+${b.length}`);
      return dev.write(o, b);
    },
    writeSync: (o, b) => {
      log.push(`${o}+${b.length}`);
      dev.writeSync(o, b);
    },
    flush: () => {
      log.push('flush');
      return dev.flush();
    },
    flushSync: () => {
      log.push('flush');
      dev.flushSync();
    },
    close: () => dev.close(),
  };
  return { device, log };
}
