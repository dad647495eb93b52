/**
 * Srch files for tests: appending to one, reading a written one back, and the order and
 * parity of entries.
 */
import { crc32c } from '../../host/core/crc32c.js';
import type { SrchEntry } from '../../host/core/format.js';
import { SrchFile } from '../../host/core/format.js';
import { Rec } from '../../host/core/trees.js';
import { decodeSrchBlock } from '../../host/disk/srch_decode.js';
import type { Device } from '../../host/env/device.js';
import { BLOCK_BYTES, FSID } from './treespace.js';
import type { Space } from './treespace.js';

export const SAFE = 65398;
export const PARENT_REFS = 4094;
export const LEAF_MAGIC = 0x897e4a7d;
export const PARENT_MAGIC = 0xb23a2a05;

/** A log file that entries are appended to, with what was appended. */
export class Log {
  readonly rec: Rec;
  readonly model: SrchEntry[] = [];
  private readonly entry: Rec;

  constructor(readonly s: Space, file?: SrchFile) {
    this.rec = new Rec(s.core, SrchFile.size);
    this.entry = new Rec(s.core, 24);
    if (file !== undefined) SrchFile.write(s.core.view, this.rec.ptr, file);
  }

  get file(): SrchFile { return SrchFile.read(this.s.core.view, this.rec.ptr); }

  prepare(): number | Promise<number> {
    const { core, space } = this.s;
    return core.run(() => core.x.srch_prepare(space.al, space.ws, this.rec.ptr));
  }

  append(e: SrchEntry): void {
    const { core, space } = this.s;
    [e.hash, e.ino, e.id].forEach((n, i) => {
      core.view.setBigUint64(this.entry.ptr + i * 8, n, true);
    });
    core.x.srch_append(space.al, space.ws, this.rec.ptr, this.entry.ptr);
    this.model.push(e);
  }

  async add(...entries: SrchEntry[]): Promise<void> {
    for (const e of entries) {
      const r = this.prepare();
      if (await r !== 0) throw new Error(`prepare: ${String(await r)}`);
      this.append(e);
    }
  }
}

export function leafView(dev: Device, blkno: number): DataView {
  const b = new Uint8Array(BLOCK_BYTES);
  dev.readSync(blkno * BLOCK_BYTES, b);
  return new DataView(b.buffer);
}

/** The leaves of a written file, by logical block. */
export function leaves(dev: Device, f: SrchFile): DataView[] {
  const visit = (blkno: number, level: number): DataView[] => {
    const v = leafView(dev, blkno);
    if (level === 0) return [v];
    return Array.from({ length: PARENT_REFS }, (_, i) =>
      Number(v.getBigUint64(32 + i * 16, true))).filter((n) => n !== 0)
      .flatMap((n) => visit(n, level - 1));
  };
  return f.height === 0 ? [] : visit(f.ref.blkno, f.height - 1);
}

export function entriesOf(dev: Device, f: SrchFile): SrchEntry[] {
  return leaves(dev, f).flatMap((v) => [...decodeSrchBlock(v)].map((d) => d.entry));
}

export function compareEntries(a: SrchEntry, b: SrchEntry): number {
  for (const k of ['hash', 'ino', 'id'] as const) {
    if (a[k] !== b[k]) return a[k] < b[k] ? -1 : 1;
  }
  return 0;
}

/** A block as it is on the device. */
export function writeBlock(dev: Device, blkno: number, magic: number, fill: (v: DataView) => void):
void {
  const b = new Uint8Array(BLOCK_BYTES);
  const v = new DataView(b.buffer);
  v.setUint32(4, magic, true);
  v.setBigUint64(8, FSID, true);
  v.setBigUint64(16, 1n, true);
  v.setBigUint64(24, BigInt(blkno), true);
  fill(v);
  v.setUint32(0, crc32c(0xffffffff, b.subarray(4)), true);
  dev.writeSync(blkno * BLOCK_BYTES, b);
}

/** The entries that occur an odd number of times, in order. */
export function oddEntries(entries: readonly SrchEntry[]): SrchEntry[] {
  const odd = new Map<string, SrchEntry>();
  for (const e of entries) {
    const name = `${e.hash} ${e.ino} ${e.id}`;
    if (!odd.delete(name)) odd.set(name, e);
  }
  return [...odd.values()].sort(compareEntries);
}
