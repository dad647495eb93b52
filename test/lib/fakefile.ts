/**
 * One file of a mount without a cluster (`fakemount.ts`), with the data operations as
 * promises.
 */
import type { BytePos } from '../../host/core/bytepos.js';
import { FS_ZONE } from '../../host/core/format.js';
import { alignedMemory } from '../../host/env/device.js';
import type { Attr, ReadIn, SetAttr, WriteIn } from '../../host/fs/vfs.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { keyString } from './fakeitems.js';
import type { FakeOptions } from './fakemount.js';
import { FakeMount, nameOf, newAttr, newEntry, newOpen } from './fakemount.js';
import { checkItems } from './fsinvariants.js';

export class File {
  constructor(readonly m: FakeMount, readonly ino: number) {}

  static async make(o: FakeOptions, m = new FakeMount(o)): Promise<File> {
    const out = newEntry();
    await m.run((op) => {
      m.fs.create(op, m.caller, 1, nameOf('f'), 0o100666, 0, 0, out, newOpen());
    });
    return new File(m, out.ino);
  }

  async write(offset: BytePos, bytes: Uint8Array, more: Partial<WriteIn> = {}): Promise<WriteIn> {
    const memory = alignedMemory(bytes.length);
    memory.set(bytes);
    const w: WriteIn = {
      fh: 0, offset, data: memory, append: false, cached: false, killSuidgid: false,
      writtenAt: offset, ...more,
    };
    const n = await this.m.run((op) => this.m.fs.write(op, this.m.caller, this.ino, w));
    if (n !== bytes.length) throw new Error(`short write: ${n} of ${bytes.length}`);
    return w;
  }

  async read(offset: BytePos, size: number, more: Partial<ReadIn> = {}): Promise<Buffer> {
    const r: ReadIn = { fh: 0, offset, size, direct: true, forWrite: false, ...more };
    return Buffer.from(await this.m.run((op) => this.m.fs.read(op, this.m.caller, this.ino, r)));
  }

  async setattr(set: Partial<SetAttr>): Promise<Attr> {
    const full: SetAttr = {
      valid: 0, fh: 0, size: 0, mode: 0, uid: 0, gid: 0, atimeSec: 0, atimeNsec: 0, mtimeSec: 0,
      mtimeNsec: 0, ctimeSec: 0, ctimeNsec: 0, ...set,
    };
    const out = { attr: newAttr(), attrCacheable: true };
    await this.m.run((op) => this.m.fs.setattr(op, this.m.caller, this.ino, full, out));
    return out.attr;
  }

  async fallocate(mode: number, offset: BytePos, len: BytePos): Promise<void> {
    await this.m.run((op) => this.m.fs.fallocate(op, this.m.caller, this.ino, 0, mode, offset,
      len));
  }

  async seek(offset: BytePos, whence: number): Promise<BytePos> {
    return this.m.run((op) => this.m.fs.lseek(op, this.m.caller, this.ino, offset, whence));
  }

  async attr(): Promise<Attr> {
    const out = { attr: newAttr(), attrCacheable: true };
    await this.m.run((op) => { this.m.fs.getattr(op, this.m.caller, this.ino, out); });
    return out.attr;
  }

  bad(): string[] {
    return checkItems(this.m.items.store, this.m.alloc.used);
  }

  inodeField(offset: number): number {
    const v = this.m.items.store.get(keyString(FS_ZONE, this.ino, 4, 0, 0, 0));
    return v === undefined ? -1 : Number(new DataView(v.buffer).getBigUint64(offset, true));
  }
}

/** How a promise ends: its errno or ok. */
export async function errno(p: Promise<unknown>): Promise<string> {
  try {
    await p;
    return 'ok';
  } catch (e) {
    return asScoutfsError(e).errno;
  }
}
