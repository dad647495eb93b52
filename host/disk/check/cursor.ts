/**
 * Walking a btree in key order, checking each block when it is first read.
 *
 * A cursor holds one block per level. `next` steps to the next leaf item; the
 * fields then say where it lies. Several cursors side by side merge trees without
 * loading them. A child that cannot be used is reported, counted as a gap of the
 * keys its parent gave it, and stepped over.
 *
 * Every block is claimed in the map of metadata blocks before it is descended
 * into, so a walk ends even if references form a circle.
 */
import { BLOCK_MAGIC_BTREE, BTREE_MAX_HEIGHT } from '../../core/format.js';
import type { BtreeRoot } from '../../core/format.js';
import type { Place } from './accounting.js';
import type { Block, Ref } from './blocks.js';
import { refAt, refOf } from './blocks.js';
import { BLOCK_ITEMS_MAX, BtreeBlockCheck, ITEM_FLAGS, ITEM_KEY, ITEM_SEQ, ITEM_VAL_LEN,
  ITEM_VAL_OFF } from './btree.js';
import type { Context } from './context.js';
import { ONES, compareKeys, copyKey, keyText, newKey, num } from './keys.js';
import type { KeyView } from './keys.js';

export interface TreeSpec {
  root: BtreeRoot;
  /** For messages: "the fs tree". */
  name: string;
  place: Place;
  /** Item flags that leaves may have; none if absent. */
  leafFlags?: number;
  /** False for a subtree, which need not end in the greatest key. */
  whole?: boolean;
  /** Instead of claiming the block: false to step over it silently. */
  claim?: (blkno: number) => boolean;
  /** Told the range of keys (after low, up to high) that cannot be read. */
  onGap?: (low: KeyView | null, high: KeyView) => void;
}

interface Level {
  block: Block;
  level: number;
  order: Uint16Array;
  count: number;
  pos: number;
  low: KeyView | null;
  high: KeyView;
  rightEdge: boolean;
}

const NONE = new DataView(new ArrayBuffer(0));

export class TreeCursor {
  /** The current item's block. */
  view: DataView = NONE;
  blkno = 0;
  /** Offset of the current item in it. */
  item = 0;
  private readonly levels: Level[] = [];

  constructor(private readonly ctx: Context, readonly spec: TreeSpec) {
    const { height, ref } = spec.root;
    if (height === 0 && ref.blkno === 0 && ref.seq === 0n) return;
    if (height === 0 || height > BTREE_MAX_HEIGHT || ref.blkno === 0) {
      ctx.report.finding('CHK_BTREE_ROOT',
        `the root of ${spec.name} has height ${height} and block ${ref.blkno}`);
      this.gap(null, ONES);
      return;
    }
    this.push(refOf(ref), height - 1, null, ONES, spec.whole !== false);
  }

  get keyOff(): number {
    return this.item + ITEM_KEY;
  }

  get seq(): number {
    return num(this.view, this.item + ITEM_SEQ);
  }

  get flags(): number {
    return this.view.getUint8(this.item + ITEM_FLAGS);
  }

  get valLen(): number {
    return this.view.getUint16(this.item + ITEM_VAL_LEN, true);
  }

  get valOff(): number {
    return this.view.getUint16(this.item + ITEM_VAL_OFF, true);
  }

  get key(): string {
    return keyText(this.view, this.keyOff);
  }

  /** Steps to the next item. @returns false at the end of the tree */
  next(): boolean {
    for (;;) {
      const top = this.levels[this.levels.length - 1];
      if (top === undefined) return false;
      top.pos++;
      const item = top.order[top.pos];
      if (top.pos >= top.count || item === undefined) {
        this.levels.pop();
        this.ctx.reader.give(top.block);
      } else if (!BtreeBlockCheck.valueUsable(top.block.view, item, top.level)) {
        if (top.level > 0) this.childGap(top);
      } else if (top.level > 0) {
        this.descend(top, item);
      } else {
        this.view = top.block.view;
        this.blkno = top.block.blkno;
        this.item = item;
        this.ctx.summary.items++;
        return true;
      }
    }
  }

  private descend(parent: Level, item: number): void {
    const v = parent.block.view;
    const ref = refAt(v, v.getUint16(item + ITEM_VAL_OFF, true));
    const [low, high] = childBounds(parent, item);
    const last = parent.pos === parent.count - 1;
    this.push(ref, parent.level - 1, low, high, parent.rightEdge && last);
  }

  private push(ref: Ref, level: number, low: KeyView | null, high: KeyView,
    rightEdge: boolean): void {
    const { ctx, spec } = this;
    if (ctx.reader.inRange(ref.blkno) && !this.claim(ref.blkno)) {
      if (spec.claim === undefined) this.gap(low, high);
      return;
    }
    const block = ctx.reader.read(ref, BLOCK_MAGIC_BTREE, spec.name);
    if (block === null) {
      this.gap(low, high);
      return;
    }
    ctx.summary.btreeBlocks++;
    const order = new Uint16Array(BLOCK_ITEMS_MAX);
    const count = ctx.blockCheck.check(block, {
      level, isRoot: this.levels.length === 0, rightEdge, low, high,
      leafFlags: spec.leafFlags ?? 0, what: spec.name,
    }, order);
    if (count < 0) {
      ctx.reader.give(block);
      this.gap(low, high);
      return;
    }
    this.levels.push({ block, level, order, count, pos: -1, low, high, rightEdge });
  }

  private claim(blkno: number): boolean {
    const { spec, ctx } = this;
    return spec.claim === undefined ? ctx.meta.use(blkno, spec.place) : spec.claim(blkno);
  }

  private childGap(parent: Level): void {
    const [low, high] = childBounds(parent, parent.order[parent.pos] ?? 0);
    this.gap(low, high);
  }

  private gap(low: KeyView | null, high: KeyView): void {
    this.ctx.unreadBlocks++;
    this.spec.onGap?.(low, high);
  }
}

/** The range of keys that a parent gives to the child at its position. */
function childBounds(parent: Level, item: number): [low: KeyView | null, high: KeyView] {
  const v = parent.block.view;
  const high = newKey();
  copyKey(high, v, item + ITEM_KEY);
  if (compareKeys(high, 0, parent.high, 0) > 0) copyKey(high, parent.high, 0);
  const before = parent.order[parent.pos - 1];
  if (parent.pos === 0 || before === undefined) return [parent.low, high];
  const low = newKey();
  copyKey(low, v, before + ITEM_KEY);
  return [low, high];
}
