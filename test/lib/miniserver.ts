/**
 * The server's handling of free metadata blocks in small: two list pairs and two extent
 * trees that swap roles, trees of its own, one client with a tree and lists of its own,
 * and a tree that is being freed. `account` finds every block number of the volume and
 * says which are lost or in two places. Source: alloc.md 6, 7, 9.1.
 */
import { AllocListHead, Key } from '../../host/core/format.js';
import { Rec, TreeSpace } from '../../host/core/trees.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import { allocRoot, btreeOf, empty, extents, fill, insert, listBlocks, listHead, splice, totalLen }
  from './extents.js';
import { rawBlock, rawTree, writeListBlock } from './treespace.js';
import type { Space } from './treespace.js';

const LIST_BLKNO = 1000;
const EXTENT_BLKNO = 10000;
const FILL_LO = 150;
const FILL_TARGET = 400;
const CLIENT_FILL = 200;
const ROOT_BYTES = 24;

interface Client {
  space: TreeSpace;
  root: Rec;
  /** as the server has recorded them */
  avail: Rec;
  freed: Rec;
  committedRoot: Uint8Array;
  open: boolean;
}

/** -1, 0 or 1 as keys sort: zone, first, type, second, third, fourth. */
export function compareKeys(a: Uint8Array, b: Uint8Array): number {
  const read = (k: Uint8Array): (bigint | number)[] => {
    const x = Key.read(new DataView(k.buffer, k.byteOffset), 0);
    return [x.zone, x.first, x.type, x.second, x.third, x.fourth];
  };
  const [x, y] = [read(a), read(b)];
  for (let i = 0; i < x.length; i++) {
    const [p, q] = [x[i] ?? 0, y[i] ?? 0];
    if (p !== q) return p < q ? -1 : 1;
  }
  return 0;
}

export class MiniServer {
  readonly avail: [Rec, Rec];
  readonly freed: [Rec, Rec];
  readonly trees: [Rec, Rec];
  readonly root: Rec;
  readonly client: Client;
  /** A tree that is being freed, and how far that is. */
  dying: { root: Rec; key: Rec } | null = null;
  private active: 0 | 1 = 0;
  private availTree: 0 | 1 = 0;

  constructor(readonly s: Space, private readonly listNr: number,
    private readonly extentBlocks: number) {
    this.avail = [listHead(s, writeListBlock(s.dev, LIST_BLKNO, LIST_BLKNO + 1, listNr)),
      listHead(s)];
    this.freed = [listHead(s), listHead(s)];
    this.trees = [allocRoot(s), allocRoot(s)];
    this.root = new Rec(s.core, ROOT_BYTES);
    this.client = {
      space: new TreeSpace(s.core), root: new Rec(s.core, ROOT_BYTES), avail: listHead(s),
      freed: listHead(s), committedRoot: new Uint8Array(ROOT_BYTES), open: false,
    };
    s.space.begin(this.avail[0].get(), this.freed[0].get());
  }

  async start(): Promise<void> {
    const piece = Math.ceil(this.extentBlocks / 7);
    for (let at = 0; at < this.extentBlocks; at += piece) {
      const len = Math.min(piece, this.extentBlocks - at);
      await insert(this.s, this.trees[0], EXTENT_BLKNO + at, len);
    }
    await this.commit();
  }

  private get other(): 0 | 1 { return this.active === 0 ? 1 : 0; }
  private get metaAvail(): Rec { return this.trees[this.availTree]; }
  private get metaFreed(): Rec { return this.trees[this.availTree === 0 ? 1 : 0]; }

  /** As alloc.md 6 says, rule by rule; lazy: freed numbers stay in their list this time. */
  async commit(lazy = false): Promise<void> {
    const { s } = this;
    this.orFail(await fill(s, this.avail[this.other], this.metaAvail, FILL_LO, FILL_TARGET));
    if (!lazy) this.orFail(await empty(s, this.freed[this.other], this.metaFreed));
    const heads = s.space.finish();
    this.avail[this.active].set(heads.avail);
    this.freed[this.active].set(heads.freed);
    await s.space.write();
    s.space.forget(true);
    this.active = this.other;
    s.space.begin(this.avail[this.active].get(), this.freed[this.active].get());
    if (totalLen(this.metaAvail) < 2 * FILL_TARGET &&
        totalLen(this.metaFreed) > totalLen(this.metaAvail)) {
      this.availTree = this.availTree === 0 ? 1 : 0;
    }
  }

  private orFail(r: number): void {
    const errno = r < 0 ? this.s.core.error('commit', r).errno : null;
    if (errno !== null && errno !== 'ENOSPC') throw new Error(`commit: ${errno}`);
  }

  /** GET_LOG_TREES: returns what was freed (not if lazy), fills what may be used; one commit. */
  async clientGet(lazy = false): Promise<void> {
    const { client, s } = this;
    if (client.open) return;
    if (!lazy) this.orFail(await splice(s, this.freed[this.other], client.freed));
    this.orFail(await fill(s, client.avail, this.metaAvail, CLIENT_FILL / 2, CLIENT_FILL));
    await this.commit();
    client.space.begin(client.avail.get(), client.freed.get());
    client.open = true;
  }

  /** COMMIT_LOG_TREES. */
  async clientCommit(): Promise<void> {
    const { client } = this;
    if (!client.open) return;
    const heads = client.space.finish();
    await client.space.write();
    client.space.forget(true);
    client.avail.set(heads.avail);
    client.freed.set(heads.freed);
    client.committedRoot = client.root.get();
    client.open = false;
  }

  /** The client vanished: what it did not commit never was. */
  clientCrash(): void {
    const { client } = this;
    if (!client.open) return;
    client.space.finish();
    client.space.forget(false);
    client.root.set(client.committedRoot);
    client.open = false;
  }

  /** Reclaim: both lists go back. */
  async clientGiveBack(): Promise<void> {
    const { client, s } = this;
    if (client.open) return;
    this.orFail(await splice(s, this.freed[this.other], client.freed));
    this.orFail(await splice(s, this.freed[this.other], client.avail));
  }

  /** The client's tree becomes one that nothing refers to. */
  dropClientTree(): void {
    const { client, s } = this;
    if (client.open || this.dying !== null) return;
    this.dying = { root: new Rec(s.core, ROOT_BYTES, client.committedRoot),
      key: new Rec(s.core, 32) };
    client.committedRoot = new Uint8Array(ROOT_BYTES);
    client.root.set(client.committedRoot);
  }

  async freeSome(budget: number): Promise<void> {
    if (this.dying === null) return;
    await this.s.space.freeTree(this.dying.root.ptr, this.dying.key, budget);
    if (this.dying.key.get()[25] === 255) this.dying = null;
  }

  /** Block numbers with more or less than one place, after a commit. */
  async account(): Promise<string[]> {
    const { s, client } = this;
    const places = new Map<number, string[]>();
    const put = (blkno: number, what: string): void => {
      const at = places.get(blkno);
      if (at === undefined) places.set(blkno, [what]);
      else at.push(what);
    };
    const putTree = (root: Rec, what: string): void => {
      for (const b of rawTree(s.dev, root).flat()) put(b.blkno, what);
    };
    const lists = { avail0: this.avail[0], avail1: this.avail[1], freed0: this.freed[0],
      freed1: this.freed[1], clientAvail: client.avail, clientFreed: client.freed };
    for (const [name, rec] of Object.entries(lists)) {
      const head = AllocListHead.read(new DataView(rec.get().buffer), 0);
      const blocks = listBlocks(s, head);
      for (const b of blocks) {
        put(b.blkno, `${name} block`);
        for (const n of b.blknos) put(n, name);
      }
      const total = blocks.reduce((n, b) => n + b.blknos.length, 0);
      if (total !== head.totalNr) put(-1, `${name} total ${head.totalNr} not ${total}`);
      const first = blocks[0]?.blknos.length ?? 0;
      if (first !== head.firstNr) put(-1, `${name} first ${head.firstNr} not ${first}`);
    }
    for (const [i, tree] of this.trees.entries()) {
      putTree(btreeOf(s, tree), `tree ${i} block`);
      const e = await extents(s, tree);
      for (const [start, len] of e.by_blkno) {
        for (let n = start; n < start + len; n++) put(n, `tree ${i}`);
      }
      if (e.by_blkno.reduce((n, r) => n + r[1], 0) !== totalLen(tree)) put(-1, `tree ${i} total`);
      if (e.by_order.length !== e.by_blkno.length) put(-1, `tree ${i} pairs`);
    }
    putTree(this.root, 'server tree');
    putTree(new Rec(s.core, ROOT_BYTES, client.committedRoot), 'client tree');
    if (this.dying !== null) this.putDying(this.dying.root, this.dying.key.get(), put);
    const wrong: string[] = [];
    const check = (n: number): void => {
      const at = places.get(n);
      if (at?.length !== 1) wrong.push(`${n}: ${at?.join(', ') ?? 'lost'}`);
      places.delete(n);
    };
    for (let n = LIST_BLKNO; n <= LIST_BLKNO + this.listNr; n++) check(n);
    for (let n = 0; n < this.extentBlocks; n++) check(EXTENT_BLKNO + n);
    for (const [n, at] of places) wrong.push(`${n} does not exist: ${at.join(', ')}`);
    return wrong;
  }

  /** Blocks whose bound is at or after the key are still in use. */
  private putDying(root: Rec, key: Uint8Array, put: (blkno: number, what: string) => void): void {
    const { dev } = this.s;
    const v = new DataView(root.get().buffer);
    const ones = new Uint8Array(32).fill(255, 0, 27);
    const visit = (blkno: number, level: number, bound: Uint8Array): void => {
      if (compareKeys(bound, key) < 0) return;
      put(blkno, 'dying tree');
      if (level === 0) return;
      for (const it of rawBlock(dev, blkno).items) {
        visit(Number(new DataView(it.val.buffer).getBigUint64(0, true)), level - 1, it.key);
      }
    };
    const height = v.getUint8(16);
    if (height > 0) visit(Number(v.getBigUint64(0, true)), height - 1, ones);
  }
}

/** Whether an error only says that there is no space now. */
export function isNoSpace(e: unknown): boolean {
  return e instanceof ScoutfsError && e.errno === 'ENOSPC';
}

