/**
 * Inode index items and the locks that a transaction needs for them.
 *
 * Every inode has one item in the META_SEQ index, regular files one more in the
 * DATA_SEQ index; their majors are the inode's two seqs. Whoever updates an
 * inode moves these items, blindly, under WRITE_ONLY locks on the groups of 1024
 * seqs, which have to be held before the transaction is entered. The seq of the
 * transaction decides which groups these are, so the order is:
 *
 *   begin (take the seq) > will (each inode) > hold (locks in order, transaction)
 *   > update (each inode)
 *
 * All of that happens in one tick, in which the seq cannot change. The I(ino)
 * lock is named as primary of every blind write: without its write seq two
 * mounts could leave both of their index items behind (inode.md 14).
 *
 * One object serves the whole mount, since only one operation is in its change
 * part at a time. Source: inode.md 4.
 */
import {
  FS_ZONE, INODE_INDEX_DATA_SEQ_TYPE, INODE_INDEX_META_SEQ_TYPE, INODE_INDEX_ZONE, INODE_TYPE,
  LOCK_SEQ_GROUP_MASK,
} from '../core/constants.js';
import type { Items, LockPtr } from '../core/items.js';
import type { Op } from '../mount/op.js';
import { ScoutfsError, assert } from '../observe/errors.js';
import type { InodeRec } from './inode_item.js';
import { NO_SEQ, encodeInode } from './inode_item.js';

const SEQ_GROUP_NR = LOCK_SEQ_GROUP_MASK + 1;
/** Four inodes, two indexes, an old and a new major. */
const LOCKS_MAX = 16;

export class IndexHold {
  private seq = 0;
  private nr = 0;
  private readonly types = new Uint8Array(LOCKS_MAX);
  private readonly groups = new Float64Array(LOCKS_MAX);
  private readonly locks = new Float64Array(LOCKS_MAX);

  constructor(private readonly items: Items, private readonly formatVersion: number) {}

  /** Starts over with the open transaction's seq. @throws Wait */
  begin(op: Op): void {
    this.seq = op.transSeq();
    this.nr = 0;
  }

  /** The transaction's seq since `begin`. */
  get transSeq(): number {
    return this.seq;
  }

  /** Predicts the update of `inode`; `setsData`: its data seq will be set. */
  will(inode: InodeRec, setsData: boolean): void {
    this.add(INODE_INDEX_META_SEQ_TYPE, this.seq);
    if (inode.loadedMetaSeq !== NO_SEQ) this.add(INODE_INDEX_META_SEQ_TYPE, inode.loadedMetaSeq);
    if (inode.isReg && (setsData || inode.loadedDataSeq === NO_SEQ)) {
      this.add(INODE_INDEX_DATA_SEQ_TYPE, this.seq);
      if (inode.loadedDataSeq !== NO_SEQ) this.add(INODE_INDEX_DATA_SEQ_TYPE, inode.loadedDataSeq);
    }
  }

  /** Predicts the deletion of `inode`'s index items. */
  willDelete(inode: InodeRec): void {
    this.add(INODE_INDEX_META_SEQ_TYPE, inode.loadedMetaSeq);
    if (inode.isReg) this.add(INODE_INDEX_DATA_SEQ_TYPE, inode.loadedDataSeq);
  }

  /** Takes the predicted locks in their order and enters the transaction. @throws Wait, ENOSPC */
  hold(op: Op, allocating: boolean): void {
    for (let i = 0; i < this.nr; i++) {
      this.locks[i] = op.lockIndex(this.types[i] ?? 0, this.groups[i] ?? 0);
    }
    op.hold(allocating);
    assert(op.transSeq() === this.seq, 'the transaction changed within a tick');
  }

  /** Creates the item of a new inode with its index items. The change part. */
  create(lock: LockPtr, inode: InodeRec): void {
    inode.metaSeq = this.seq;
    inode.dataSeq = this.seq;
    this.moveItems(lock, inode);
    const len = encodeInode(this.items.val, this.formatVersion, inode);
    this.items.create(lock, FS_ZONE, inode.ino, INODE_TYPE, 0, 0, 0, len);
  }

  /** Stores the inode and moves its index items. The change part. `lock` is I(ino) W. */
  update(lock: LockPtr, inode: InodeRec): void {
    inode.metaSeq = this.seq;
    this.moveItems(lock, inode);
    const len = encodeInode(this.items.val, this.formatVersion, inode);
    this.items.update(lock, FS_ZONE, inode.ino, INODE_TYPE, 0, 0, 0, len);
  }

  /** Deletes the inode's index items; the inode item is the caller's. The change part. */
  deleteItems(lock: LockPtr, inode: InodeRec): void {
    this.remove(lock, INODE_INDEX_META_SEQ_TYPE, inode.loadedMetaSeq, inode.ino);
    if (inode.isReg) this.remove(lock, INODE_INDEX_DATA_SEQ_TYPE, inode.loadedDataSeq, inode.ino);
  }

  private moveItems(lock: LockPtr, inode: InodeRec): void {
    this.move(lock, INODE_INDEX_META_SEQ_TYPE, inode.loadedMetaSeq, inode.metaSeq, inode.ino);
    inode.loadedMetaSeq = inode.metaSeq;
    if (!inode.isReg) return;
    this.move(lock, INODE_INDEX_DATA_SEQ_TYPE, inode.loadedDataSeq, inode.dataSeq, inode.ino);
    inode.loadedDataSeq = inode.dataSeq;
  }

  private move(lock: LockPtr, type: number, from: number, to: number, ino: number): void {
    if (from === to) return;
    this.items.createForce(this.find(type, to), lock, INODE_INDEX_ZONE, 0, type, to, ino, 0);
    if (from !== NO_SEQ) this.remove(lock, type, from, ino);
  }

  private remove(lock: LockPtr, type: number, seq: number, ino: number): void {
    this.items.deleteForce(this.find(type, seq), lock, INODE_INDEX_ZONE, 0, type, seq, ino, 0);
  }

  /** Inserts (type, group of seq) in order, once. */
  private add(type: number, seq: number): void {
    const group = seq - seq % SEQ_GROUP_NR;
    let at = this.nr;
    while (at > 0) {
      const t = this.types[at - 1] ?? 0;
      const g = this.groups[at - 1] ?? 0;
      if (t === type && g === group) return;
      if (t < type || (t === type && g < group)) break;
      at -= 1;
    }
    assert(this.nr < LOCKS_MAX, 'an operation updates four inodes at most');
    this.types.copyWithin(at + 1, at, this.nr);
    this.groups.copyWithin(at + 1, at, this.nr);
    this.types[at] = type;
    this.groups[at] = group;
    this.nr += 1;
  }

  private find(type: number, seq: number): LockPtr {
    const group = seq - seq % SEQ_GROUP_NR;
    for (let i = 0; i < this.nr; i++) {
      if (this.types[i] === type && this.groups[i] === group) return this.locks[i] ?? 0;
    }
    throw new ScoutfsError('ASSERT', 'EIO', {
      message: `assertion failed: no lock was taken for index ${type} at seq ${seq}`,
    });
  }
}
