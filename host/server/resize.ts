/**
 * RESIZE_DEVICES: makes space that was added to the devices free space of the volume.
 *
 * Totals never shrink. The new ranges are inserted into the core trees and the totals
 * raised in one commit; equal totals change nothing, so a resent request succeeds.
 * Source: server.md 4.7, alloc.md 10.
 */
import { BLOCK_LG_SIZE, BLOCK_SM_SIZE, NetResizeDevices } from '../core/format.js';
import { decode } from '../net/messages.js';
import { errnoError } from '../observe/errors.js';
import type { ServerContext } from './context.js';

/** @throws EINVAL for totals below the present ones or above the devices */
export async function resizeDevices(s: ServerContext, payload: Uint8Array): Promise<void> {
  const { newTotalMetaBlocks, newTotalDataBlocks } = decode(NetResizeDevices, payload);
  const { commits, core } = s;
  return commits.transact(async () => {
    const { sup } = commits;
    const meta = { from: sup.totalMetaBlocks, to: newTotalMetaBlocks || sup.totalMetaBlocks };
    const data = { from: sup.totalDataBlocks, to: newTotalDataBlocks || sup.totalDataBlocks };
    if (meta.to < meta.from || data.to < data.from) {
      throw errnoError('EINVAL', 'devices of a volume cannot shrink');
    }
    s.metaDevice.refreshSize?.();
    s.dataDevice.refreshSize?.();
    if (meta.to * BLOCK_LG_SIZE > s.metaDevice.sizeBytes ||
        data.to * BLOCK_SM_SIZE > s.dataDevice.sizeBytes) {
      throw errnoError('EINVAL', 'the devices are smaller than the new sizes');
    }
    await insertRange(s, commits.metaAvail, meta);
    try {
      await insertRange(s, sup.dataAlloc, data);
    } catch (e) {
      await removeRange(s, commits.metaAvail, meta);
      throw e;
    }
    sup.totalMetaBlocks = meta.to;
    sup.totalDataBlocks = data.to;
    if (meta.to > meta.from) core.setVolume(s.metaDevice, commits.stable.hdr.fsid, meta.to);
  });
}

interface Range {
  from: number;
  to: number;
}

async function insertRange(s: ServerContext, aroot: number, { from, to }: Range): Promise<void> {
  const { al, ws } = s.commits.space;
  if (to === from) return;
  await s.core.runAsync('insert new free space', () =>
    s.core.x.ext_insert(al, ws, aroot, from, to - from));
}

async function removeRange(s: ServerContext, aroot: number, { from, to }: Range): Promise<void> {
  const { al, ws } = s.commits.space;
  if (to === from) return;
  try {
    await s.core.runAsync('remove new free space', () =>
      s.core.x.ext_remove(al, ws, aroot, from, to - from));
  } catch (e) {
    throw s.commits.fatal(e);
  }
}
