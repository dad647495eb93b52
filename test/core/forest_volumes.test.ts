/**
 * Volumes written by upstream, read through the forest and the item cache alone: every
 * path of the manifest is found by name, every inode is there, nothing else is but the
 * orphans, and the totals are those that upstream reported.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { Core } from '../../host/core/core.js';
import { BtreeRoot, LogMergeStatus, SuperBlock } from '../../host/core/format.js';
import { ITEM_WINDOWS } from '../../host/core/item_exports.js';
import { CoreItems, KeyWindow } from '../../host/core/item_face.js';
import { ABSENT } from '../../host/core/items.js';
import type { WideKey } from '../../host/core/items.js';
import { Rec, TreeReader } from '../../host/core/trees.js';
import { openDevice } from '../../host/env/device.js';
import type { Device } from '../../host/env/device.js';
import { realRandom } from '../../host/env/random.js';
import { wideBytes } from '../lib/forest_space.js';
import { NotCached, READ } from '../lib/item_cache.js';
import {
  fixtureText, fixturesDir, skipWithoutFixtures, tempDir, unpackFixture,
} from '../lib/shared.js';
import { keyBytes } from '../lib/treespace.js';

const FS = 16;
const INODE = 4;
const GROUP = 1024;
const ONES = 2n ** 64n - 1n;
const SUPER_BYTE = 16 * 4096;
const ENOENT = -2;

interface Entry {
  path_b64?: string;
  path: string;
  ino: number;
}

class Volume {
  readonly items: CoreItems;
  private readonly missing: KeyWindow;
  private readonly keyA: KeyWindow;
  readonly keyB: KeyWindow;
  readonly fsRoot: Rec;
  readonly logsRoot: Rec;
  private readonly locks = new Map<number, number>();

  private constructor(readonly core: Core, readonly dev: Device, readonly sb: SuperBlock) {
    this.fsRoot = rootRec(core, sb.fsRoot);
    this.logsRoot = rootRec(core, sb.logsRoot);
    this.missing = new KeyWindow(core.view, ITEM_WINDOWS.missing);
    this.keyA = new KeyWindow(core.view, ITEM_WINDOWS.keyA);
    this.keyB = new KeyWindow(core.view, ITEM_WINDOWS.keyB);
    this.items = new CoreItems(core, (lock) => { throw new NotCached(lock, this.missing.wide()); });
  }

  static async open(meta: string): Promise<Volume> {
    const dev = await openDevice(meta, { readOnly: true });
    const block = new Uint8Array(4096);
    dev.readSync(SUPER_BYTE, block);
    const sb = SuperBlock.read(new DataView(block.buffer), 0);
    const core = new Core(realRandom, { memoryBytes: 64 << 20 });
    core.setVolume(dev, sb.hdr.fsid, sb.totalMetaBlocks);
    if (core.x.itemInit(8 << 20) === 0) throw new Error('item cache does not fit');
    return new Volume(core, dev, sb);
  }

  /** The lock of an inode's group. */
  lock(ino: number): number {
    const first = Math.floor(ino / GROUP) * GROUP;
    let lock = this.locks.get(first);
    if (lock === undefined) {
      const start = { zone: FS, first: BigInt(first), type: 0, second: 0n, third: 0n, fourth: 0 };
      this.keyA.set(start);
      this.keyB.set({ zone: FS, first: BigInt(first + GROUP - 1), type: 255, second: ONES,
        third: ONES, fourth: 255 });
      lock = this.core.x.lockAlloc();
      this.core.x.lockSetMode(lock, READ, 0);
      this.locks.set(first, lock);
    }
    return lock;
  }

  /** Runs a looking call, reading what it misses. */
  async look(fn: () => number): Promise<number> {
    for (;;) {
      try {
        return fn();
      } catch (e) {
        if (!(e instanceof NotCached)) throw e;
        const key = new Rec(this.core, 32, wideBytes(e.key));
        const { x } = this.core;
        const r = await this.core.run(() => x.forestRead(
          this.fsRoot.ptr, this.logsRoot.ptr, e.lock, key.ptr, x.itemBarrier()));
        key.free();
        if (r !== 0) throw new Error(`forest read: ${r}`, { cause: e });
      }
    }
  }

  /** First key at or after `key` that any tree has, null at the end. */
  async hint(key: WideKey): Promise<WideKey | null> {
    const at = new Rec(this.core, 32, wideBytes(key));
    const r = await this.core.run(() =>
      this.core.x.forestNextHint(this.fsRoot.ptr, this.logsRoot.ptr, at.ptr));
    at.free();
    if (r === ENOENT) return null;
    if (r !== 0) throw new Error(`hint: ${r}`);
    return new KeyWindow(this.core.view, ITEM_WINDOWS.found).wide();
  }

  /** seq of the merge status item, 0 without a merge. */
  async mergeSeq(): Promise<number> {
    const root = rootRec(this.core, this.sb.logMerge);
    const val = await new TreeReader(this.core).lookup(root.ptr, keyBytes(44, 0n, 0));
    return val === null ? 0 : LogMergeStatus.read(new DataView(val.buffer), 0).seq;
  }
}

function rootRec(core: Core, root: BtreeRoot): Rec {
  const b = new Uint8Array(24);
  BtreeRoot.write(new DataView(b.buffer), 0, root);
  return new Rec(core, 24, b);
}

function manifest(name: string, state: string): Entry[] {
  const text = fixtureText(name, `manifest${state}.jsonl.zst`);
  return text.trim().split('\n').map((l) => JSON.parse(l) as Entry);
}

/** The inode that a path leads to, by lookups alone; ABSENT when a part is missing. */
async function resolve(v: Volume, path: Buffer, known: Map<string, number>): Promise<number> {
  const cut = path.lastIndexOf(0x2f);
  const name = path.subarray(cut + 1);
  const parent = cut <= 0 ? 1 : known.get(path.subarray(0, cut).toString('latin1')) ?? ABSENT;
  if (name.length === 0) return 1;
  const len = await v.look(() => {
    v.items.nameBytes.set(name);
    return v.items.lookupName(v.lock(parent), parent, name.length);
  });
  return len === ABSENT ? ABSENT : Number(v.items.val.getBigUint64(0, true));
}

function pathBytes(e: Entry): Buffer {
  const b = e.path_b64 !== undefined ? Buffer.from(e.path_b64, 'base64') : Buffer.from(e.path);
  const text = b.toString('latin1').replace(/^\.?\/?/, '/').replace(/\/$/, '');
  return Buffer.from(text, 'latin1');
}

/** All inodes, found by walking from hint to hint and through the caches of the locks. */
async function allInodes(v: Volume): Promise<Set<number>> {
  const inos = new Set<number>();
  let from: WideKey = { zone: FS, first: 0n, type: 0, second: 0n, third: 0n, fourth: 0 };
  for (;;) {
    const at = await v.hint(from);
    if (at === null || at.zone !== FS) return inos;
    const ino = Number(at.first);
    const lock = v.lock(ino);
    const len = await v.look(() => v.items.lookup(lock, FS, ino, INODE, 0, 0, 0));
    if (len !== ABSENT) inos.add(ino);
    from = { zone: FS, first: at.first + 1n, type: 0, second: 0n, third: 0n, fourth: 0 };
  }
}

/** Every item of [start, end] read without locks: its key and the address of its value. */
async function weakly(v: Volume, start: WideKey, end: WideKey,
  each: (key: WideKey, valPtr: number) => void): Promise<void> {
  const outBytes = 4096;
  const out = v.core.alloc(outBytes);
  const bloom = new Rec(v.core, 32, wideBytes(start));
  const at = new Rec(v.core, 32, wideBytes(start));
  const mergeSeq = await v.mergeSeq();
  for (;;) {
    const n = await v.core.run(() => {
      v.keyB.set(end);
      return v.core.x.forestReadWeak(v.fsRoot.ptr, v.logsRoot.ptr, bloom.ptr, at.ptr, mergeSeq,
        out, outBytes);
    });
    if (n < 0) throw new Error(`weak read: ${n}`);
    for (let i = 0, p = out; i < n; i++) {
      each(new KeyWindow(v.core.view, p).wide(), p + 40);
      p += 40 + (v.core.view.getUint32(p + 32, true) + 7 & ~7);
    }
    const last = v.keyB.wide();
    if (Buffer.compare(wideBytes(last), wideBytes(end)) === 0) return;
    at.set(wideBytes({ ...last, fourth: last.fourth + 1 }));
  }
}

async function totals(v: Volume): Promise<string[]> {
  const lines: string[] = [];
  await weakly(v, { zone: 12, first: 0n, type: 0, second: 0n, third: 0n, fourth: 0 },
    { zone: 12, first: ONES, type: 255, second: ONES, third: ONES, fourth: 255 }, (k, val) => {
      const [total, count] = [0, 8].map((o) => v.core.view.getBigInt64(val + o, true));
      lines.push(`${k.first}.${k.second}.${k.third} = ${total}, ${count}`);
    });
  return lines;
}

/** Inodes that wait for being deleted. */
async function orphans(v: Volume): Promise<number[]> {
  const inos: number[] = [];
  await weakly(v, { zone: 8, first: 0n, type: 4, second: 0n, third: 0n, fourth: 0 },
    { zone: 8, first: 0n, type: 4, second: ONES, third: 0n, fourth: 0 },
    (k) => { inos.push(Number(k.second)); });
  return inos;
}

/** `state` is the part of the file names that says which state is meant. */
async function check(t: Test, name: string, state: string): Promise<void> {
  const tmp = tempDir('forest');
  try {
    const v = await Volume.open(unpackFixture(name, tmp.dir).meta);
    const known = new Map<string, number>();
    const wrong: string[] = [];
    const entries = manifest(name, state).map((e) => ({ ino: e.ino, path: pathBytes(e) }));
    for (const e of entries.sort((a, b) => a.path.length - b.path.length)) {
      const ino = await resolve(v, e.path, known);
      known.set(e.path.toString('latin1'), ino);
      if (ino !== e.ino) wrong.push(`${e.path.toString('latin1')}: ${ino}, not ${e.ino}`);
    }
    t.same(wrong.slice(0, 5), [], `${entries.length} paths are found`);
    const inos = await allInodes(v);
    const listed = new Set(entries.map((e) => e.ino));
    t.same([...listed].filter((i) => !inos.has(i)), [], 'every inode has its item');
    const waiting = await orphans(v);
    t.equal(waiting.length, name === 'dirty-crash' ? 10 : 0, 'orphans');
    t.same([...inos].filter((i) => !listed.has(i)), waiting,
      'there are no other inodes but orphans');
    const file = join(fixturesDir() ?? '', name, `queries${state}.json`);
    const queries = JSON.parse(readFileSync(file, 'utf8')) as
      { queries: Record<string, { out: string }> };
    const want = (queries.queries['scoutfs read-xattr-totals']?.out ?? '').split('\n');
    t.same(await totals(v), want.filter((l) => l !== ''), 'totals');
    t.ok(v.core.x.itemPages() * 16_384 <= 8 << 20, 'within its memory');
    v.core.x.pageVerify();
    await v.dev.close();
  } finally {
    tmp.remove();
  }
}

// dirty-crash was killed with a transaction open: what its recovery shows is what was committed
for (const [name, state] of [
  ['small-tree', ''], ['two-mounts', ''], ['dirty-crash', '-after-recovery'],
] as const) {
  t.test(name, { skip: skipWithoutFixtures() }, (t) => check(t, name, state));
}
