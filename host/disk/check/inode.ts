/**
 * One inode: its item, what hangs on it, and whether the two agree.
 *
 * The items of an inode come in a row: inode item, xattrs, entries if it is a
 * directory, backrefs, symlink chunks, data extents. They are counted as they come
 * and compared with the inode item at the end of the row. An inode without links
 * is being deleted: extents and xattrs go before the item, whose counts stay.
 *
 * Spec: inode.md 3, 4, 7 and 9, dir.md 2 and 8, data.md 1, format.md 14.
 */
import { DATA_DEV_START_BLKNO, DATA_EXTENT_TYPE, DIRENT_TYPE, DT_DIR, DT_LNK, DT_REG,
  INODE_INDEX_DATA_SEQ_TYPE, INODE_INDEX_META_SEQ_TYPE, INODE_INDEX_ZONE, INODE_TYPE,
  INO_FLAG_RETENTION, INO_FLAG_TRUNCATE, LINK_BACKREF_TYPE, LINK_MAX, ORPHAN_TYPE, ORPHAN_ZONE,
  READDIR_TYPE, ROOT_INO, SEF_OFFLINE, SEF_UNKNOWN, SEF_UNWRITTEN, SYMLINK_MAX_SIZE, SYMLINK_TYPE,
  XATTR_TYPE } from '../../core/format.js';
import type { Context } from './context.js';
import type { DirTree } from './dir.js';
import { EntryCheck, dtOfMode } from './dir.js';
import { KEY_BYTES, keyText, makeKey, newKey, num, typeOf } from './keys.js';
import type { FindingId } from './report.js';
import { XattrCheck } from './xattr.js';
import type { TotalTable } from './totl.js';

const CHUNK_BYTES = 896;
const NSEC_MAX = 999999999;
const FILE_BLOCK_MAX = 2 ** 52 - 1;
const TIME_OFFSETS = [96, 112, 128, 144];
const LEAK_BYTES = 64;

/** The fields of an inode item that are checked. */
interface Fields {
  size: number;
  metaSeq: number;
  dataSeq: number;
  online: number;
  offline: number;
  nlink: number;
  mode: number;
  flags: number;
  /** Dirent type of the mode; undefined for an impossible one. */
  dt: number | undefined;
}

export class InodeCheck {
  /** Inodes that look like left behind by a failed creation. */
  readonly leaked = new Set<number>();
  liveInodes = 0;
  sawRoot = false;
  private ino = 0;
  private fields: Fields | null = null;
  private toldNoInode = false;
  private chunks = 0;
  private chunkBytes = 0;
  private lastByte = -1;
  private online = 0;
  private offline = 0;
  private lastEnd = -1;
  private lastBlkno = 0;
  private lastLen = 0;
  private lastFlags = 0;
  private readonly entries: EntryCheck;
  private readonly xattrs: XattrCheck;
  private readonly key = newKey();

  constructor(private readonly ctx: Context, private readonly dirs: DirTree, totals: TotalTable) {
    this.entries = new EntryCheck(ctx);
    this.xattrs = new XattrCheck(ctx, totals);
  }

  /** One resolved item of the fs zone: key at `k`, `len` bytes of value at `o`. */
  item(v: DataView, k: number, o: number, len: number): void {
    const ino = num(v, k);
    const type = typeOf(v, k);
    if (ino !== this.ino) {
      this.finish();
      this.begin(ino);
      if (type === INODE_TYPE) this.inodeItem(v, k, o);
      this.startParts(v, o);
      if (type === INODE_TYPE) return;
    }
    if (this.inGap()) return;
    if (this.fields === null && !this.toldNoInode) {
      this.toldNoInode = true;
      this.bad('CHK_ITEM_NO_INODE', 'does not exist, but has items', v, k);
    }
    if (type === XATTR_TYPE) this.xattrs.part(v, k, o, len);
    else if (type === DIRENT_TYPE) this.entries.dirent(v, k, o, len);
    else if (type === READDIR_TYPE) this.entries.readdir(v, k, o, len);
    else if (type === LINK_BACKREF_TYPE) this.entries.backref(v, k, o, len);
    else if (type === SYMLINK_TYPE) this.chunk(v, k, o, len);
    else if (type === DATA_EXTENT_TYPE) this.extent(v, k, o);
  }

  /** Ends the current inode; also after the last item. */
  finish(): void {
    if (this.ino === 0) return;
    if (!this.inGap()) this.xattrs.finish();
    if (this.fields !== null && !this.inGap()) this.compare(this.fields);
    this.ino = 0;
  }

  private begin(ino: number): void {
    this.ino = ino;
    this.fields = null;
    this.toldNoInode = false;
    this.chunks = this.chunkBytes = this.online = this.offline = 0;
    this.lastByte = this.lastEnd = -1;
    if (ino >= this.ctx.sb.nextIno) {
      this.bad('CHK_INODE_RANGE', `is not below the next free number ${this.ctx.sb.nextIno}`);
    }
  }

  private startParts(v: DataView, o: number): void {
    const f = this.fields;
    this.xattrs.begin(this.ino, f === null ? Infinity : num(v, o + 56), f?.nlink === 0);
    this.entries.begin(this.ino, f?.dt, f === null ? Infinity : num(v, o + 48));
  }

  /** Some items of this inode could not be read, and older versions may show through. */
  private inGap(): boolean {
    return this.ctx.gaps.some(([first, last]) => first <= this.ino && this.ino <= last);
  }

  private bad(id: FindingId, what: string, v?: DataView, k = 0): void {
    this.ctx.report.finding(id, `inode ${this.ino} ${what}`,
      { ino: this.ino, ...(v === undefined ? {} : { key: keyText(v, k) }) });
  }

  private inodeItem(v: DataView, k: number, o: number): void {
    const mode = v.getUint32(o + 84, true);
    const f: Fields = {
      size: num(v, o), metaSeq: num(v, o + 8), dataSeq: num(v, o + 16),
      online: num(v, o + 32), offline: num(v, o + 40), nlink: v.getUint32(o + 72, true), mode,
      flags: v.getUint32(o + 92, true), dt: dtOfMode(mode),
    };
    this.fields = f;
    this.liveInodes++;
    this.ctx.summary.inodes++;
    if (f.dt === DT_DIR) this.ctx.summary.directories++;
    if (this.ino === ROOT_INO) this.sawRoot = f.dt === DT_DIR;
    if (f.dt === undefined) this.bad('CHK_INODE_MODE', `has mode 0${mode.toString(8)}`, v, k);
    const retention = f.dt === DT_REG && this.ctx.sb.fmtVers >= 2 ? INO_FLAG_RETENTION : 0;
    if ((f.flags & ~(INO_FLAG_TRUNCATE | retention)) !== 0) {
      this.bad('CHK_INODE_FLAGS', `has flags ${f.flags}`, v, k);
    }
    if (TIME_OFFSETS.some((t) => v.getUint32(o + t + 8, true) > NSEC_MAX
      || v.getUint32(o + t + 12, true) !== 0)) {
      this.bad('CHK_INODE_TIME', 'has an invalid time stamp', v, k);
    }
    const seq = Math.max(f.metaSeq, f.dataSeq);
    if (seq > this.ctx.sb.seq) {
      this.bad('CHK_INODE_SEQ', `has seq ${seq}, the last one given out is ${this.ctx.sb.seq}`,
        v, k);
    }
    // larger ones are kept rounded, which compares right with all that is not a regular file
    if (f.dt === DT_REG && v.getInt32(o + 4, true) < 0) {
      this.bad('CHK_INODE_SIZE', 'has a size above 2^63 - 1', v, k);
    }
    if (f.nlink > LINK_MAX) this.bad('CHK_INODE_NLINK', `has link count ${f.nlink}`, v, k);
  }

  private chunk(v: DataView, k: number, o: number, len: number): void {
    const f = this.fields;
    if (f?.dt !== undefined && f.dt !== DT_LNK) {
      if (this.chunks === 0) this.bad('CHK_SYMLINK_CHUNK', 'is no symbolic link', v, k);
      this.chunks++;
      return;
    }
    const nr = num(v, k + 8);
    if (nr !== this.chunks) {
      this.bad('SC_SYMLINK_MISSING_ITEM', `lacks part ${this.chunks} of its target`, v, k);
      this.chunks = nr;
    }
    const want = f === null ? len : Math.min(f.size - nr * CHUNK_BYTES, CHUNK_BYTES);
    if (len !== want) {
      this.bad('CHK_SYMLINK_CHUNK', `has part ${nr} of ${len} bytes, expected ${want}`, v, k);
    }
    this.chunks++;
    this.chunkBytes += len;
    this.lastByte = v.getUint8(o + len - 1);
  }

  private extent(v: DataView, k: number, o: number): void {
    const end = num(v, k + 8);
    const len = num(v, k + 16);
    const blkno = num(v, o);
    const flags = v.getUint8(o + 8);
    this.ctx.summary.extents++;
    const dt = this.fields?.dt;
    if (dt !== undefined && dt !== DT_REG && this.lastEnd === -1) {
      this.bad('CHK_EXTENT_OWNER', 'is no regular file, but has data extents', v, k);
    }
    if (v.getUint8(o + 9) !== 0 || v.getUint16(o + 10, true) !== 0
      || v.getUint32(o + 12, true) !== 0) {
      this.bad('CHK_ITEM_VALUE', 'has an extent with padding that is not zero', v, k);
    }
    const start = end - len + 1;
    if (len === 0 || end > FILE_BLOCK_MAX || start < 0) {
      this.bad('CHK_EXTENT_RANGE', `has an extent of ${len} blocks ending at ${end}`, v, k);
      return;
    }
    if (start <= this.lastEnd) {
      this.bad('CHK_EXTENT_OVERLAP', `has an extent at ${start} that overlaps another`, v, k);
    }
    this.checkFlags(blkno, flags, v, k);
    this.noteUnmerged(start, blkno, flags, v, k);
    this.lastEnd = end;
    this.lastBlkno = blkno;
    this.lastLen = len;
    this.lastFlags = flags;
    if (blkno !== 0 && (flags & SEF_UNWRITTEN) === 0) this.online += len;
    else if ((flags & SEF_OFFLINE) !== 0) this.offline += len;
    if (blkno !== 0) this.mapped(blkno, len, v, k);
  }

  private checkFlags(blkno: number, flags: number, v: DataView, k: number): void {
    const unmappedOk = flags === SEF_OFFLINE;
    if ((flags & SEF_UNKNOWN) !== 0 || (blkno === 0 && !unmappedOk)) {
      this.bad('CHK_EXTENT_FLAGS', `has an extent at block ${blkno} with flags ${flags}`, v, k);
    } else if (blkno !== 0 && flags === SEF_OFFLINE) {
      this.ctx.report.note('CHK_EXTENT_FLAGS',
        `inode ${this.ino} has a mapped offline extent that is not unwritten`,
        { ino: this.ino, key: keyText(v, k) });
    }
  }

  private noteUnmerged(start: number, blkno: number, flags: number, v: DataView, k: number): void {
    if (start !== this.lastEnd + 1 || this.lastEnd === -1 || flags !== this.lastFlags) return;
    if (this.lastBlkno === 0 ? blkno === 0 : blkno === this.lastBlkno + this.lastLen) {
      this.ctx.report.note('CHK_EXTENT_UNMERGED',
        `inode ${this.ino} has neighbouring extents that could be one`,
        { ino: this.ino, key: keyText(v, k) });
    }
  }

  private mapped(blkno: number, len: number, v: DataView, k: number): void {
    if (blkno < DATA_DEV_START_BLKNO || blkno + len > this.ctx.data.totalBlocks) {
      this.bad('CHK_EXTENT_RANGE', `maps data blocks ${blkno} to ${blkno + len - 1}`, v, k);
      return;
    }
    this.ctx.summary.mappedDataBlocks += len;
    const clash = this.ctx.data.mark(blkno, len);
    if (clash !== -1) {
      this.bad('CHK_DATA_TWICE', `maps data block ${clash}, which is mapped or free elsewhere`,
        v, k);
    }
  }

  /** Holds the inode item against what was seen after it. */
  private compare(f: Fields): void {
    this.compareBlocks(f);
    this.compareSize(f);
    const isLeaked = f.nlink === 1 && this.entries.backrefs === 0 && this.ino !== ROOT_INO
      && this.entries.dirents === 0 && this.lastEnd === -1;
    if (isLeaked) this.addLeaked();
    else this.compareLinks(f);
    const put = (match: 'index/inode' | 'orphan/inode'): void => {
      this.ctx.ledger.put(match, -1, 0, this.key, 0, KEY_BYTES, this.key, 0);
    };
    if (f.nlink === 0) {
      this.ctx.summary.orphans++;
      makeKey(this.key, ORPHAN_ZONE, 0, ORPHAN_TYPE, this.ino);
      put('orphan/inode');
    }
    if (isLeaked) return;
    makeKey(this.key, INODE_INDEX_ZONE, 0, INODE_INDEX_META_SEQ_TYPE, f.metaSeq, this.ino);
    put('index/inode');
    if (f.dt !== DT_REG) return;
    makeKey(this.key, INODE_INDEX_ZONE, 0, INODE_INDEX_DATA_SEQ_TYPE, f.dataSeq, this.ino);
    put('index/inode');
  }

  private addLeaked(): void {
    this.ctx.memory.charge(LEAK_BYTES, 'the list of leaked inodes');
    this.leaked.add(this.ino);
  }

  private compareBlocks(f: Fields): void {
    const exact = this.online === f.online && this.offline === f.offline;
    const partly = f.nlink === 0 && this.online <= f.online && this.offline <= f.offline;
    if (!exact && !partly) {
      this.bad('SC_INODE_BLOCK_COUNTS', `records ${f.online} online and ${f.offline} offline `
        + `blocks, its extents have ${this.online} and ${this.offline}`);
    }
  }

  private compareSize(f: Fields): void {
    if (f.dt === DT_DIR) {
      if (f.size !== this.entries.nameBytes) {
        this.bad('CHK_DIR_SIZE', `has size ${f.size}, its names have ${this.entries.nameBytes}`);
      }
    } else if (f.dt === DT_LNK) {
      this.compareSymlink(f);
    } else if (f.dt !== DT_REG && f.dt !== undefined && f.size !== 0) {
      this.bad('CHK_INODE_SIZE', `is a special file of size ${f.size}`);
    }
  }

  private compareSymlink(f: Fields): void {
    if (f.size < 1 || f.size > SYMLINK_MAX_SIZE) {
      this.bad('SC_SYMLINK_INODE_SIZE', `is a symbolic link of size ${f.size}`);
    } else if (this.chunkBytes < f.size) {
      this.bad('SC_SYMLINK_MISSING_ITEM', `has ${this.chunkBytes} bytes of a target of ${f.size}`);
    } else if (this.lastByte !== 0) {
      this.bad('SC_SYMLINK_NOT_NULL_TERM', 'has a target without a final zero byte');
    }
  }

  private compareLinks(f: Fields): void {
    const { backrefs, subdirs, dirents, parent } = this.entries;
    if (f.dt !== DT_DIR) {
      if (f.nlink !== backrefs) {
        this.bad('CHK_INODE_NLINK', `has link count ${f.nlink}, but ${backrefs} links`);
      }
      return;
    }
    if (f.nlink === 0 ? dirents > 0 : f.nlink !== 2 + subdirs) {
      this.bad(f.nlink === 0 ? 'CHK_DIR_UNLINKED' : 'CHK_INODE_NLINK',
        `has link count ${f.nlink}, but ${dirents} entries with ${subdirs} directories`);
    }
    const links = this.ino === ROOT_INO || f.nlink === 0 ? 0 : 1;
    if (backrefs !== links) {
      this.bad('CHK_DIR_BACKREFS', `is a directory with ${backrefs} links`);
    }
    if (links === 1 && backrefs > 0) this.dirs.add(this.ino, parent);
  }
}
