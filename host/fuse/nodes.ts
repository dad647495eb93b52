/**
 * What the kernel knows about each inode of this mount.
 *
 * A node exists while the kernel holds references to it (counted by replies that
 * name it, given back by FORGET) or handles are open on it; when both are gone it
 * is removed and evicted. The other fields say what the kernel may have cached, so
 * that a drain sends only the notifications that are needed (fuse.md 5.1).
 *
 * Nodes are also grouped as the locks are: 1024 inode numbers to a group.
 *
 * The kernel forgets unused inodes only when it is short of memory itself, which says
 * nothing about ours. So the table has a limit: beyond it the oldest nodes without
 * handles are proposed for pruning, a batch at a time. Nodes that the kernel keeps
 * anyway (directories with cached children, mapped files) move to the young end, so
 * that the next batch is another one.
 */
import { LOCK_INODE_GROUP_NR, ROOT_INO } from '../core/constants.js';

/**
 * A range of whole pages in bytes, end exclusive; Infinity is the end of the file. Doubles hold
 * all multiples of a page up to 2^63.
 */
export interface Range {
  start: number;
  end: number;
}

/** A page notification the kernel has not finished. */
export interface InFlight extends Range {
  /** READs executed because it waited for them: their pages are there again. */
  readonly noted: Range[];
}

/** Keeps READs that fill pages of a range from running, for a moment. */
export interface Hold extends Range {
  readonly done: Promise<void>;
  release(): void;
}

/** What most nodes have of everything: there can be many nodes. */
export const NONE: readonly never[] = [];

export class Node {
  /** References held by the kernel. */
  lookups = 0;
  handles = 0;
  rdwrHandles = 0;
  /** Attributes were given out with a timeout since the last drain. */
  attrGiven = false;
  /** A READ has filled the page cache since the last drain. */
  pagesMaybe = false;
  /**
   * Where the kernel may have pages that a mapping can make dirty without notice: filled, or
   * there already, while a handle O_RDWR is open.
   */
  mappable: readonly Range[] = NONE;
  /** Attributes without links were given. */
  unlinked = false;
  /** The lock went away while handles were open: pruning left it out. */
  drainedOpen = false;
  /** Directories: epoch in which a name inside was last given out with a timeout. */
  entriesEpoch = -1;
  /** Objects, because ranges can be equal. */
  inFlight: readonly InFlight[] = NONE;
  holds: readonly Hold[] = NONE;

  constructor(readonly ino: number) {}
}

/** The group number of an inode. */
export function groupOf(ino: number): number {
  return Math.floor(ino / LOCK_INODE_GROUP_NR);
}

/** Nodes proposed for pruning at a time, and of a small table its quarter. */
const PRUNE_BATCH_MAX_NODES = 4096;
const PRUNE_SHARE = 4;

export class NodeTable {
  /** In order of age, but for nodes that `oldest` moved. */
  private readonly nodes = new Map<number, Node>();
  private readonly groups = new Map<number, Set<Node>>();
  /** The count at which pruning is asked for. */
  private crowdedAt: number;
  private readonly batchNodes: number;

  /**
   * @param evict   called once for a node that is gone
   * @param maxNodes the limit
   * @param crowded called when it is exceeded, and again after every further batch
   */
  constructor(private readonly evict: (ino: number) => void,
    private readonly maxNodes = Infinity, private readonly crowded: () => void = () => undefined) {
    this.crowdedAt = maxNodes + 1;
    this.batchNodes = Math.min(PRUNE_BATCH_MAX_NODES, Math.ceil(maxNodes / PRUNE_SHARE));
    // the kernel has the root without asking and never forgets it
    this.add(ROOT_INO).lookups = 1;
  }

  /** The oldest nodes that the kernel may have no use for; they become the youngest. */
  oldest(): number[] {
    const count = this.batchNodes;
    const inos: number[] = [];
    let looked = 0;
    for (const node of this.nodes.values()) {
      if (inos.length === count || looked++ === 2 * count) break;
      if (node.ino !== ROOT_INO && node.handles === 0 && node.lookups > 0) inos.push(node.ino);
    }
    for (const ino of inos) {
      const node = this.nodes.get(ino);
      if (node === undefined) continue;
      this.nodes.delete(ino);
      this.nodes.set(ino, node);
    }
    return inos;
  }

  get count(): number {
    return this.nodes.size;
  }

  get(ino: number): Node | undefined {
    return this.nodes.get(ino);
  }

  /** The node of an inode the kernel names; made when missing. */
  obtain(ino: number): Node {
    return this.nodes.get(ino) ?? this.add(ino);
  }

  /** The known nodes of the group that starts at `firstIno`. */
  inGroup(firstIno: number): readonly Node[] {
    const set = this.groups.get(groupOf(firstIno));
    return set === undefined ? [] : [...set];
  }

  get size(): number {
    return this.nodes.size;
  }

  /** All inode numbers the kernel holds references to. */
  inos(): IterableIterator<number> {
    return this.nodes.keys();
  }

  /** Gives back `count` references. */
  forget(ino: number, count: number): void {
    const node = this.nodes.get(ino);
    if (node === undefined || ino === ROOT_INO) return;
    node.lookups = Math.max(0, node.lookups - count);
    this.settle(node);
  }

  /** Removes and evicts a node that nobody refers to any more. */
  settle(node: Node): void {
    if (node.lookups > 0 || node.handles > 0 || this.nodes.get(node.ino) !== node) return;
    this.nodes.delete(node.ino);
    if (this.nodes.size <= this.maxNodes) this.crowdedAt = this.maxNodes + 1;
    const nr = groupOf(node.ino);
    const set = this.groups.get(nr);
    set?.delete(node);
    if (set?.size === 0) this.groups.delete(nr);
    this.evict(node.ino);
  }

  private add(ino: number): Node {
    const node = new Node(ino);
    this.nodes.set(ino, node);
    const nr = groupOf(ino);
    let set = this.groups.get(nr);
    if (set === undefined) {
      set = new Set();
      this.groups.set(nr, set);
    }
    set.add(node);
    if (this.nodes.size >= this.crowdedAt) {
      this.crowdedAt = this.nodes.size + this.batchNodes;
      this.crowded();
    }
    return node;
  }
}
