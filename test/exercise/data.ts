/**
 * Random reads and writes of every kind against files in memory.
 *
 * A few files, each a window of bytes that begins at a base offset: two at 0, one across
 * 4 GiB, one across 2^53. Each has several handles at a time (cached, direct, O_DIRECT,
 * appending) and at times a shared mapping that outlives many operations. Every operation
 * is made on the file and on the model; every read, by whatever way, must show the model.
 * What must fail (punching holes and the like) must change nothing.
 */
import * as c from '../lib/syscalls.js';
import { Journal, Random, Weighted } from './exerciser.js';
import type { Exerciser } from './exerciser.js';

const PAGE = 4096;
const FILE_MAX_BYTES = 384 * 1024;
const IO_MAX_BYTES = 65_536;
const BASES = [0n, 0n, 2n ** 32n - 64n * 4096n, 2n ** 53n - 32n * 4096n];
const KEEP_SIZE = 1;
/** fallocate modes that scoutfs does not have. */
const REFUSED_MODES = [0x03, 0x08, 0x10, 0x11, 0x20, 0x40];
const HANDLE_FLAGS = {
  cached: c.O.RDONLY, rw: c.O.RDWR, direct: c.O.RDWR | c.O.DIRECT,
  append: c.O.WRONLY | c.O.APPEND, sync: c.O.RDWR | c.O.SYNC,
} as const;
type HandleKind = keyof typeof HANDLE_FLAGS;

type OpName = 'read' | 'write' | 'append' | 'truncate' | 'mapRead' | 'mapWrite' | 'map' | 'unmap' |
  'fallocate' | 'keepSize' | 'refused' | 'copy' | 'sync' | 'reopen' | 'seek' | 'stat' | 'trunc';

const OPS = new Weighted<OpName>([
  ['read', 260], ['write', 220], ['append', 40], ['truncate', 60], ['mapRead', 90],
  ['mapWrite', 80], ['map', 12], ['unmap', 8], ['fallocate', 30], ['keepSize', 30],
  ['refused', 20], ['copy', 40], ['sync', 1], ['reopen', 30], ['seek', 40], ['stat', 30],
  ['trunc', 7],
]);

/** A file, its model, and what is open of it. */
class Subject {
  /** The window from `base` on; bytes behind `size` are zero. */
  readonly bytes = Buffer.alloc(FILE_MAX_BYTES);
  size = 0;
  readonly fds = new Map<HandleKind, number>();
  map: bigint | null = null;

  constructor(readonly path: string, readonly base: bigint) {}
}

export class DataExerciser implements Exerciser {
  private readonly rnd: Random;
  private readonly journal: Journal;
  private readonly subjects: Subject[];
  /** Where written bytes come from. */
  private readonly noise = Buffer.alloc(2 * IO_MAX_BYTES);
  private readonly back = Buffer.alloc(FILE_MAX_BYTES);

  constructor(dir: string, seed: number, bases: readonly bigint[] = BASES) {
    this.rnd = new Random(seed);
    this.journal = new Journal(`data, seed ${seed}`);
    for (let i = 0; i < this.noise.length; i += 4) this.noise.writeUInt32LE(this.rnd.next(), i);
    this.subjects = bases.map((base, i) => new Subject(`${dir}/f${i}`, base));
    for (const s of this.subjects) {
      c.ok(c.creat(s.path), 'creat');
      c.ok(c.truncate(s.path, s.base), 'truncate');
    }
  }

  get counts(): Map<string, number> {
    return this.journal.counts;
  }

  step(): void {
    // some choices cannot be made, such as appending to what is full: choose again
    for (const before = this.journal.nr; this.journal.nr === before;) {
      this[OPS.pick(this.rnd)](this.rnd.pick(this.subjects));
    }
  }

  pause(): void {
    for (const s of this.subjects) {
      if (s.map !== null) this.unmap(s);
      for (const fd of s.fds.values()) c.close(fd);
      s.fds.clear();
    }
  }

  resume(): void {
    for (const s of this.subjects) {
      this.note('all', s, '');
      this.checkSize(s);
      this.readRange(s, this.fd(s, 'cached'), 0, s.size);
      this.readRange(s, this.fd(s, 'rw'), 0, s.size);
    }
  }

  // --- choices ------------------------------------------------------------------

  /** An offset: anywhere, often at or beside a block's edge. */
  private offset(limit: number): number {
    const at = this.rnd.below(Math.max(1, limit));
    const how = this.rnd.below(4);
    if (how === 0) return at - at % PAGE;
    if (how === 1) return Math.max(0, Math.min(limit - 1, at - at % PAGE + this.rnd.below(3) - 1));
    return at;
  }

  private length(limit: number): number {
    const most = this.rnd.oneIn(4) ? IO_MAX_BYTES : 6000;
    const len = this.rnd.oneIn(3) ? PAGE * (1 + this.rnd.below(4)) : 1 + this.rnd.below(most);
    return Math.max(1, Math.min(len, limit));
  }

  private fd(s: Subject, kind: HandleKind): number {
    const open = s.fds.get(kind);
    if (open !== undefined) return open;
    const fd = c.ok(c.open(s.path, HANDLE_FLAGS[kind]), `open ${kind}`);
    s.fds.set(kind, fd);
    return fd;
  }

  private readKind(): HandleKind {
    return this.rnd.pick(['cached', 'cached', 'rw', 'direct'] as const);
  }

  private writeKind(): HandleKind {
    return this.rnd.oneIn(300) ? 'sync' : this.rnd.pick(['rw', 'rw', 'direct'] as const);
  }

  private note(op: string, s: Subject, detail: string): void {
    this.journal.op(op, `${s.path.slice(-2)} (${s.size}) ${detail}`);
  }

  // --- operations -----------------------------------------------------------------

  private read(s: Subject): void {
    const kind = this.readKind();
    const at = this.offset(s.size + 100);
    const len = this.length(FILE_MAX_BYTES - at);
    this.note('read', s, `${kind} ${at}+${len}`);
    this.readRange(s, this.fd(s, kind), at, len);
  }

  private write(s: Subject): void {
    const kind = this.writeKind();
    const at = this.offset(this.rnd.oneIn(6) ? FILE_MAX_BYTES : s.size + 1000);
    if (at >= FILE_MAX_BYTES) return;
    const data = this.data(FILE_MAX_BYTES - at);
    this.note('write', s, `${kind} ${at}+${data.length}`);
    this.wrote(s, at, data, c.pwrite(this.fd(s, kind), data, s.base + BigInt(at)));
  }

  private append(s: Subject): void {
    if (s.size >= FILE_MAX_BYTES) return;
    const data = this.data(FILE_MAX_BYTES - s.size);
    this.note('append', s, `+${data.length}`);
    this.wrote(s, s.size, data, c.write(this.fd(s, 'append'), data));
  }

  private truncate(s: Subject): void {
    const size = this.offset(this.rnd.oneIn(3) ? FILE_MAX_BYTES :
      Math.min(FILE_MAX_BYTES, s.size + 5000));
    this.note('truncate', s, String(size));
    const to = s.base + BigInt(size);
    const r = this.rnd.oneIn(2) ? c.truncate(s.path, to) : c.ftruncate(this.fd(s, 'rw'), to);
    this.expect(r, 0);
    this.resize(s, size);
    this.maybeCheckSize(s);
  }

  /** Opening with O_TRUNC, then growing to the base again. */
  private trunc(s: Subject): void {
    this.note('trunc', s, '');
    this.expect(c.touch(s.path, c.O.WRONLY | c.O.TRUNC), 0);
    this.expect(c.truncate(s.path, s.base), 0);
    this.resize(s, 0);
  }

  private map(s: Subject): void {
    if (s.map !== null) return;
    this.note('map', s, '');
    const at = c.mmap(this.fd(s, 'rw'), FILE_MAX_BYTES, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED,
      s.base);
    if (typeof at === 'string') throw this.journal.differs(`mmap: ${at}`);
    s.map = at;
  }

  private unmap(s: Subject): void {
    if (s.map === null) return;
    this.note('unmap', s, '');
    this.expect(c.munmap(s.map, FILE_MAX_BYTES), 0);
    s.map = null;
  }

  private mapRead(s: Subject): void {
    if (s.size === 0) return;
    this.map(s);
    const at = this.offset(s.size);
    const len = this.length(s.size - at);
    this.note('mapRead', s, `${at}+${len}`);
    this.compare(s, at, c.peek((s.map ?? 0n) + BigInt(at), len));
  }

  private mapWrite(s: Subject): void {
    if (s.size === 0) return;
    this.map(s);
    const at = this.offset(s.size);
    const data = this.data(s.size - at);
    const map = s.map ?? 0n;
    const sync = this.rnd.below(40);
    this.note('mapWrite', s, `${at}+${data.length}${sync < 2 ? ' msync' : ''}`);
    c.poke(map + BigInt(at), data);
    data.copy(s.bytes, at);
    if (sync >= 2) return;
    const from = at - at % PAGE;
    this.expect(c.msync(map + BigInt(from), at + data.length - from,
      sync === 0 ? c.MS.SYNC : c.MS.ASYNC), 0);
  }

  private fallocate(s: Subject): void {
    const at = this.offset(FILE_MAX_BYTES);
    const len = this.length(FILE_MAX_BYTES - at);
    this.note('fallocate', s, `${at}+${len}`);
    this.expect(c.fallocate(this.fd(s, 'rw'), 0, s.base + BigInt(at), len), 0);
    s.size = Math.max(s.size, at + len);
    this.maybeCheckSize(s);
  }

  private keepSize(s: Subject): void {
    const at = this.offset(FILE_MAX_BYTES);
    const len = this.length(FILE_MAX_BYTES - at);
    this.note('keepSize', s, `${at}+${len}`);
    this.expect(c.fallocate(this.fd(s, 'rw'), KEEP_SIZE, s.base + BigInt(at), len), 0);
    this.maybeCheckSize(s);
  }

  private refused(s: Subject): void {
    const mode = this.rnd.pick(REFUSED_MODES);
    const at = this.offset(FILE_MAX_BYTES);
    this.note('refused', s, `mode ${mode} at ${at}`);
    this.expect(c.fallocate(this.fd(s, 'rw'), mode, s.base + BigInt(at), PAGE), 'EOPNOTSUPP');
    this.maybeCheckSize(s);
    this.readRange(s, this.fd(s, 'rw'), at, PAGE);
  }

  private copy(s: Subject): void {
    const to = this.rnd.pick(this.subjects);
    if (s.size === 0) return;
    const from = this.offset(s.size);
    const at = this.offset(FILE_MAX_BYTES);
    const len = Math.min(this.length(FILE_MAX_BYTES - at), s.size - from);
    if (s === to && from < at + len && at < from + len) return;
    this.note('copy', s, `${from}+${len} to ${to.path.slice(-2)} at ${at}`);
    const r = c.copyRange(this.fd(s, 'rw'), s.base + BigInt(from), this.fd(to, 'rw'),
      to.base + BigInt(at), len);
    // It may stop short; what it says it copied it must have copied.
    const n = typeof r === 'number' ? r : -1;
    if (n < 1 || n > len) throw this.journal.differs(`copied ${r}, wanted ${len}`);
    s.bytes.copy(to.bytes, at, from, from + n);
    to.size = Math.max(to.size, at + n);
    this.maybeCheckSize(to);
  }

  private sync(s: Subject): void {
    this.note('sync', s, '');
    const fd = this.fd(s, this.rnd.pick(['cached', 'rw'] as const));
    this.expect(this.rnd.oneIn(2) ? c.fsync(fd) : c.fdatasync(fd), 0);
  }

  private reopen(s: Subject): void {
    const kind = this.rnd.pick([...s.fds.keys(), 'cached' as const]);
    this.note('reopen', s, kind);
    const fd = s.fds.get(kind);
    if (fd !== undefined) this.expect(c.close(fd), 0);
    s.fds.delete(kind);
    this.fd(s, kind);
  }

  /** Wherever the file says that a hole is there are zeros, and data ends before the end. */
  private seek(s: Subject): void {
    const at = this.offset(s.size + 10);
    const from = s.base + BigInt(at);
    const fd = this.fd(s, 'rw');
    this.note('seek', s, `at ${at}`);
    // The daemon learns of stores to a map when they are written: a direct read makes them be.
    if (s.map !== null) this.readRange(s, fd, 0, FILE_MAX_BYTES);
    const data = c.lseek(fd, from, c.SEEK.DATA);
    const hole = c.lseek(fd, from, c.SEEK.HOLE);
    if (at >= s.size) {
      if (data !== 'ENXIO' || hole !== 'ENXIO') {
        throw this.journal.differs(`seek behind the end: ${data}, ${hole}`);
      }
      return;
    }
    const zerosTo = data === 'ENXIO' ? s.size : Number(BigInt(data) - s.base);
    if (zerosTo < at || (data !== 'ENXIO' && zerosTo >= s.size) || typeof hole === 'string' ||
        hole < from || hole > s.base + BigInt(s.size)) {
      throw this.journal.differs(`seek: data ${data}, hole ${hole}`);
    }
    for (let i = at; i < zerosTo; i++) {
      if (s.bytes[i] !== 0) throw this.journal.differs(`byte ${i} lies in a hole`);
    }
  }

  private stat(s: Subject): void {
    this.note('stat', s, '');
    this.checkSize(s);
    const seen = c.fstat(this.fd(s, 'cached')).size;
    if (seen !== s.base + BigInt(s.size)) throw this.journal.differs(`fstat: size ${seen}`);
  }

  // --- comparing ------------------------------------------------------------------

  private data(limit: number): Buffer {
    const len = this.length(Math.min(limit, IO_MAX_BYTES));
    const from = this.rnd.below(this.noise.length - len);
    return this.noise.subarray(from, from + len);
  }

  private wrote(s: Subject, at: number, data: Buffer, r: c.Res): void {
    this.expect(r, data.length);
    data.copy(s.bytes, at);
    s.size = Math.max(s.size, at + data.length);
  }

  private resize(s: Subject, size: number): void {
    if (size < s.size) s.bytes.fill(0, size, s.size);
    s.size = size;
  }

  private readRange(s: Subject, fd: number, at: number, len: number): void {
    const want = Math.max(0, Math.min(len, s.size - at));
    const r = c.pread(fd, this.back, len, s.base + BigInt(at));
    this.expect(r, want);
    this.compare(s, at, this.back.subarray(0, want));
  }

  private compare(s: Subject, at: number, got: Buffer): void {
    const want = s.bytes.subarray(at, at + got.length);
    if (got.equals(want)) return;
    let i = 0;
    while (got[i] === want[i]) i += 1;
    let bad = 0;
    for (let j = i; j < got.length; j++) if (got[j] !== want[j]) bad += 1;
    throw this.journal.differs(`byte ${at + i} is ${got[i]}, should be ${want[i]}; ${bad} differ`);
  }

  /** Not every time: it costs as much as the operation. */
  private maybeCheckSize(s: Subject): void {
    if (this.rnd.oneIn(4)) this.checkSize(s);
  }

  private checkSize(s: Subject): void {
    const { size } = c.lstat(s.path);
    const want = s.base + BigInt(s.size);
    if (size !== want) throw this.journal.differs(`size ${size}, should be ${want}`);
  }

  private expect(got: c.Res, want: c.Res): void {
    if (got !== want) throw this.journal.differs(`answered ${got}, should be ${want}`);
  }
}
