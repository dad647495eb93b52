/**
 * A TreeSpace over a device in memory with an allocator of ascending numbers, and
 * readers of the raw blocks it makes, for tests of trees and allocators.
 */
import { Core } from '../../host/core/core.js';
import type { CoreOptions } from '../../host/core/core.js';
import {
  AllocListHead, BLOCK_MAGIC_ALLOC_LIST, BtreeBlock, BtreeItem, Key,
} from '../../host/core/format.js';
import { TreeSpace } from '../../host/core/trees.js';
import type { Rec } from '../../host/core/trees.js';
import { crc32c } from '../../host/core/crc32c.js';
import { randomFrom } from '../../host/env/random.js';
import { SimDevice } from '../../host/env/sim_device.js';

export const FSID = 0x1122334455667788n;
export const BLOCK_BYTES = 65536;

/** Deterministic bytes. */
export function seededRandom(seed: number): ReturnType<typeof randomFrom> {
  let s = seed >>> 0;
  return randomFrom((len) => {
    const b = new Uint8Array(len);
    for (let i = 0; i < len; i++) {
      s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
      b[i] = s >>> 24;
    }
    return b;
  });
}

export interface Space<D extends SimDevice = SimDevice> {
  core: Core;
  dev: D;
  space: TreeSpace;
}

/**
 * A list block at `blkno` with these numbers, as a head (32 bytes). The window begins at
 * `start`; `next` is the head of the rest of the list.
 */
export function writeList(dev: SimDevice, blkno: number, numbers: readonly number[],
  o: { start?: number; next?: Uint8Array } = {}): Uint8Array {
  const start = o.start ?? 0;
  const b = new Uint8Array(BLOCK_BYTES);
  const v = new DataView(b.buffer);
  const nr = numbers.length;
  v.setUint32(4, BLOCK_MAGIC_ALLOC_LIST, true);
  v.setBigUint64(8, FSID, true);
  v.setBigUint64(16, 1n, true);
  v.setBigUint64(24, BigInt(blkno), true);
  let totalNr = nr;
  if (o.next !== undefined) {
    b.set(o.next.subarray(0, 16), 32);
    totalNr += AllocListHead.read(new DataView(o.next.buffer), 0).totalNr;
  }
  v.setUint32(48, start, true);
  v.setUint32(52, nr, true);
  numbers.forEach((n, i) => { v.setBigUint64(56 + (start + i) * 8, BigInt(n), true); });
  v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
  dev.writeSync(blkno * BLOCK_BYTES, b);
  const head = new Uint8Array(32);
  AllocListHead.write(new DataView(head.buffer), 0,
    { ref: { blkno, seq: 1n }, totalNr, firstNr: nr, flags: 0 });
  return head;
}

/** A list block at `blkno` with `nr` numbers from `first`, as a head (32 bytes). */
export function writeListBlock(dev: SimDevice, blkno: number, first: number, nr: number):
Uint8Array {
  return writeList(dev, blkno, Array.from({ length: nr }, (_, i) => first + i));
}

/** A space whose allocator has `nr` numbers from 1001 up (list block 1000). */
export function makeSpace(nr = 7999, opts: CoreOptions = {}, seed = 1): Space {
  return spaceOn(new SimDevice('mem', 2 ** 31), nr, opts, seed);
}

/** The same over a device of the caller. */
export function spaceOn<D extends SimDevice>(dev: D, nr = 7999, opts: CoreOptions = {}, seed = 1):
Space<D> {
  const core = new Core(seededRandom(seed), { memoryBytes: 128 << 20, ...opts });
  core.setVolume(dev, FSID, 32768);
  const space = new TreeSpace(core);
  space.begin(writeListBlock(dev, 1000, 1001, nr), new Uint8Array(32));
  return { core, dev, space };
}

/** Writes everything that is dirty and starts allocating again from the resulting lists. */
export async function commitSpace(s: Space): Promise<void> {
  const heads = s.space.finish();
  await s.space.write();
  s.space.forget(true);
  s.space.begin(heads.avail, heads.freed);
}

export function keyBytes(zone: number, first: bigint | number, type: number,
  second: bigint | number = 0, third: bigint | number = 0, fourth = 0): Uint8Array {
  const b = new Uint8Array(32);
  Key.write(new DataView(b.buffer), 0, {
    zone, first: BigInt(first), type, second: BigInt(second), third: BigInt(third), fourth,
  });
  return b;
}

export interface RawItem {
  key: Uint8Array;
  seq: bigint;
  flags: number;
  val: Uint8Array;
}

export interface RawBlock {
  blkno: number;
  level: number;
  nrItems: number;
  totalItemBytes: number;
  midFreeLen: number;
  avlHeight: number;
  items: RawItem[];
}

/** Decodes a written btree block by walking its AVL links. */
export function rawBlock(dev: SimDevice, blkno: number): RawBlock {
  const b = new Uint8Array(BLOCK_BYTES);
  dev.readSync(blkno * BLOCK_BYTES, b);
  const v = new DataView(b.buffer);
  const h = BtreeBlock.read(v, 0);
  const items: RawItem[] = [];
  const visit = (off: number): void => {
    if (off === 0) return;
    const at = 32 + off;
    const it = BtreeItem.read(v, at);
    visit(it.node.left);
    items.push({
      key: b.slice(at + 8, at + 40),
      seq: v.getBigUint64(at + 40, true),
      flags: it.flags,
      val: b.slice(it.valOff, it.valOff + it.valLen),
    });
    visit(it.node.right);
  };
  visit(h.itemRoot.node);
  const root = h.itemRoot.node;
  return {
    blkno, level: h.level, nrItems: h.nrItems, totalItemBytes: h.totalItemBytes,
    midFreeLen: h.midFreeLen, avlHeight: root === 0 ? 0 : v.getUint8(32 + root + 6), items,
  };
}

/** All blocks of a written tree, level by level from the root; leaves in key order. */
export function rawTree(dev: SimDevice, root: Rec): RawBlock[][] {
  const v = new DataView(root.get().buffer);
  const height = v.getUint8(16);
  if (height === 0) return [];
  const levels: RawBlock[][] = [[rawBlock(dev, Number(v.getBigUint64(0, true)))]];
  for (let level = height - 1; level > 0; level--) {
    const children = (levels.at(-1) ?? []).flatMap((b) => b.items.map((i) =>
      rawBlock(dev, Number(new DataView(i.val.buffer).getBigUint64(0, true)))));
    levels.push(children);
  }
  return levels;
}
