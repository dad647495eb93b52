/**
 * Trees and allocators of one transaction context, for code that works with whole
 * items: the server's trees, merge and compaction jobs, tests.
 *
 * A TreeSpace is one metadata allocator plus one writer set. Its calls wait for
 * missing blocks by themselves; keys and values are copied in and out. Roots, alloc
 * roots and list heads are records in core memory (`Rec`), changed in place by the
 * calls. Errors: ENOENT, EEXIST, ENOSPC, ESTALE, EIO as ScoutfsError.
 */
import type { Core, Ptr } from './core.js';
import { ALLOCATOR_BYTES, WSET_BYTES } from './exports.js';
import { ERRNO, assert } from '../observe/errors.js';

export const KEY_BYTES = 32;
const VAL_MAX_BYTES = 896;
const LIST_HEAD_BYTES = 32;

/** A record of fixed size in core memory. */
export class Rec {
  readonly ptr: Ptr;

  constructor(readonly core: Core, readonly lenBytes: number, init?: Uint8Array) {
    this.ptr = core.alloc(lenBytes);
    if (init !== undefined) this.set(init);
  }

  set(bytes: Uint8Array): void {
    assert(bytes.length === this.lenBytes, `record of ${this.lenBytes} bytes`);
    this.core.bytes.set(bytes, this.ptr);
  }

  get(): Uint8Array {
    return this.core.copyOut(this.ptr, this.lenBytes);
  }

  free(): void {
    this.core.free(this.ptr, this.lenBytes);
  }
}

export interface Found {
  key: Uint8Array;
  val: Uint8Array;
}

/** Reading of trees: needs no allocator. */
export class TreeReader {
  constructor(readonly core: Core) {}

  /** The value of a key, null when absent or the tree is empty. */
  async lookup(root: Ptr, key: Uint8Array): Promise<Uint8Array | null> {
    const found = await this.find('btree lookup', key, (k, v) =>
      this.core.x.btree_lookup(root, k, v, VAL_MAX_BYTES));
    return found === null ? null : found.val;
  }

  /** First item at or after the key. */
  next(root: Ptr, key: Uint8Array): Promise<Found | null> {
    return this.find('btree next', key,
      (k, v) => this.core.x.btree_next(root, k, v, VAL_MAX_BYTES));
  }

  /** Last item at or before the key. */
  prev(root: Ptr, key: Uint8Array): Promise<Found | null> {
    return this.find('btree prev', key,
      (k, v) => this.core.x.btree_prev(root, k, v, VAL_MAX_BYTES));
  }

  private async find(what: string, key: Uint8Array, fn: (key: Ptr, val: Ptr) => number):
  Promise<Found | null> {
    const core = this.core;
    const k = new Rec(core, KEY_BYTES);
    const v = core.alloc(VAL_MAX_BYTES);
    try {
      const len = await core.run(() => {
        k.set(key);
        return fn(k.ptr, v);
      });
      if (len === -ERRNO.ENOENT) return null;
      if (len < 0) throw core.error(what, len);
      return { key: k.get(), val: core.copyOut(v, Math.min(len, VAL_MAX_BYTES)) };
    } finally {
      core.free(v, VAL_MAX_BYTES);
      k.free();
    }
  }
}

export class TreeSpace extends TreeReader {
  readonly al: Ptr;
  readonly ws: Ptr;

  constructor(core: Core) {
    super(core);
    this.al = core.alloc(ALLOCATOR_BYTES);
    this.ws = core.alloc(WSET_BYTES);
  }

  /** Gives the space's own records back; after `finish` and `forget`. */
  free(): void {
    this.core.free(this.al, ALLOCATOR_BYTES);
    this.core.free(this.ws, WSET_BYTES);
  }

  /** Begins allocating from these two list heads (32 bytes each, copied). */
  begin(avail: Uint8Array, freed: Uint8Array): void {
    const a = new Rec(this.core, LIST_HEAD_BYTES, avail);
    const f = new Rec(this.core, LIST_HEAD_BYTES, freed);
    this.core.x.alloc_init(this.al, this.ws, a.ptr, f.ptr);
    a.free();
    f.free();
  }

  /**
   * Lets go of the list blocks and gives the heads as they are now. Called before
   * writing, on every path.
   */
  finish(): { avail: Uint8Array; freed: Uint8Array } {
    const a = new Rec(this.core, LIST_HEAD_BYTES);
    const f = new Rec(this.core, LIST_HEAD_BYTES);
    this.core.x.alloc_finish(this.al, a.ptr, f.ptr);
    const heads = { avail: a.get(), freed: f.get() };
    a.free();
    f.free();
    return heads;
  }

  /** Writes all dirty blocks; they stay dirty until `forget`. */
  write(): Promise<void> {
    return this.core.writeSet(this.ws);
  }

  /** Ends the writer set: its blocks are clean when `written`, dropped otherwise. */
  forget(written: boolean): void {
    this.core.x.wsetForget(this.ws, written);
  }

  get dirtyBlocks(): number { return this.core.x.wsetCount(this.ws); }
  get availNr(): number { return this.core.x.alloc_avail_nr(this.al); }
  get freedRoom(): number { return this.core.x.alloc_freed_room(this.al); }
  /** Freed room for admission decisions: takes the rotation of the first use into account. */
  get freedRemaining(): number { return this.core.x.alloc_freed_remaining(this.al); }

  insert(root: Ptr, key: Uint8Array, val: Uint8Array): Promise<void> {
    return this.change('btree insert', key, val, (k, v) =>
      this.core.x.btree_insert(this.al, this.ws, root, k, v, val.length));
  }

  update(root: Ptr, key: Uint8Array, val: Uint8Array): Promise<void> {
    return this.change('btree update', key, val, (k, v) =>
      this.core.x.btree_update(this.al, this.ws, root, k, v, val.length));
  }

  /** Updates or inserts. */
  force(root: Ptr, key: Uint8Array, val: Uint8Array): Promise<void> {
    return this.change('btree force', key, val, (k, v) =>
      this.core.x.btree_force(this.al, this.ws, root, k, v, val.length));
  }

  delete(root: Ptr, key: Uint8Array): Promise<void> {
    return this.change('btree delete', key, NO_VALUE, (k) =>
      this.core.x.btree_delete(this.al, this.ws, root, k));
  }

  /** Makes the path to an existing item dirty, so that a later update of it cannot fail. */
  dirty(root: Ptr, key: Uint8Array): Promise<void> {
    return this.change('btree dirty', key, NO_VALUE, (k) =>
      this.core.x.btree_dirty(this.al, this.ws, root, k));
  }

  rebalance(root: Ptr, key: Uint8Array): Promise<void> {
    return this.change('btree rebalance', key, NO_VALUE, (k) =>
      this.core.x.btree_rebalance(this.al, this.ws, root, k));
  }

  setParent(root: Ptr, key: Uint8Array, sub: Ptr): Promise<void> {
    return this.change('btree set parent', key, NO_VALUE, (k) =>
      this.core.x.btree_set_parent(this.al, this.ws, root, k, sub));
  }

  /** Applies one logged item: value, seq, flags; deltas are added. */
  apply(root: Ptr, key: Uint8Array, seq: number, flags: number, val: Uint8Array): Promise<void> {
    return this.change('btree apply', key, val, (k, v) =>
      this.core.x.btree_apply(this.al, this.ws, root, k, seq, flags, v, val.length));
  }

  /**
   * Frees up to `budget` blocks of an unreachable tree; `key` (a Rec) is its progress. A
   * budget too small for a level-1 block and the parents it completes is exceeded by them.
   * @returns how many blocks were freed
   */
  async freeTree(root: Ptr, key: Rec, budget: number): Promise<number> {
    const { x } = this.core;
    let freed = 0;
    await this.core.runAsync('free tree', () => {
      const r = x.tree_free(this.al, root, key.ptr, budget - freed);
      freed += x.tree_freed_nr();
      return r;
    });
    return freed;
  }

  private async change(what: string, key: Uint8Array, val: Uint8Array,
    fn: (key: Ptr, val: Ptr) => number): Promise<void> {
    const k = new Rec(this.core, KEY_BYTES, key);
    const v = val.length === 0 ? null : new Rec(this.core, val.length, val);
    try {
      await this.core.runAsync(what, () => fn(k.ptr, v?.ptr ?? 0));
    } finally {
      v?.free();
      k.free();
    }
  }
}

const NO_VALUE = new Uint8Array(0);

/** The bounds of the keys that share a level-1 block with `key`, and that block as a root. */
export async function parentOf(core: Core, root: Ptr, key: Uint8Array):
Promise<{ start: Uint8Array; end: Uint8Array; root: Uint8Array }> {
  const k = new Rec(core, KEY_BYTES, key);
  const start = new Rec(core, KEY_BYTES);
  const end = new Rec(core, KEY_BYTES);
  const out = new Rec(core, 24);
  try {
    await core.runAsync('parent range', () =>
      core.x.btree_parent_range(root, k.ptr, start.ptr, end.ptr));
    await core.runAsync('get parent', () => core.x.btree_get_parent(root, k.ptr, out.ptr));
    return { start: start.get(), end: end.get(), root: out.get() };
  } finally {
    for (const r of [k, start, end, out]) r.free();
  }
}
