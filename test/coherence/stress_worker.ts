/**
 * One process of the stress run: changes and looks at objects through one mount, at random.
 *
 * Objects are of kinds; each says how its n-th change is made and what may be seen after the
 * n-th. A look reads `done` before and `begun` after it (`stress_table.ts`): what it saw has to
 * be the outcome of one of the changes between. A worker keeps descriptors and mappings of the
 * files that stay the same inode, so that old ones are tried as well as new ones.
 *
 * Tells the first things that were stale through IPC, and its operations by kind at the end.
 */
import * as c from '../lib/syscalls.js';
import { StressTable } from './stress_table.js';

const PAGE = 4096;
/** Where in a file that is overwritten in place the number stands: in its first, a later, and its
 * last page. */
const PLACES = [0, 3 * PAGE + 100, 40 * PAGE] as const;
const NUMBER_BYTES = 12;
const RECORD_BYTES = 16;
const LOG_MAX_RECORDS = 2000;
const PROBLEMS_MAX = 20;
const SIZE_STEP = 1009;
const SIZE_ROUND = 64;
const DIRS = 3;

export interface StressOrder {
  table: string;
  /** Below the mount; has the areas. */
  dir: string;
  worker: number;
  mount: number;
  seed: number;
  endMs: number;
  areas: number;
}

/** Objects of an area: so many of each kind. */
const AREA_OBJECTS = 32;
const KINDS = 8;
/** For so long an area is quiet, or busy. */
const PHASE_MS = 700;
/** One of so many operations is a change. */
const CHANGE_BUSY = 4;
const CHANGE_QUIET = 80;

/** Small and repeatable; quality does not matter. */
function random(seed: number): (below: number) => number {
  let s = (seed * 2_654_435_761) >>> 0 || 1;
  return (below) => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    s >>>= 0;
    return s % below;
  };
}

/** Where a number is: two beside each other in a file, so that writers meet in a page. */
function placeOf(o: number): { name: string; place: number } {
  const nr = Math.floor(o / KINDS);
  const file = Math.floor(nr / 2);
  const place = (PLACES[file % PLACES.length] ?? 0) + nr % 2 * NUMBER_BYTES;
  return { name: `data${file}`, place };
}

const text = (seq: number): string => String(seq).padStart(NUMBER_BYTES, '0');

/** How a look ended: a number between the bounds, or what was wrong. */
type Look = (lo: number, hi: () => number) => string | null;

interface Kind {
  name: string;
  /** Makes change `seq`; `unsure`: the one before may be missing. */
  change(o: number, seq: number, unsure: boolean): void;
  look: (o: number) => Look;
}

class Worker {
  readonly counts: Record<string, number> = {};
  problems = 0;
  /** Of the area that it works in now. */
  private dir = '';
  private ops = 0;
  private readonly rnd: (below: number) => number;
  private readonly table: StressTable;
  private readonly fds = new Map<string, number>();
  private readonly maps = new Map<string, bigint>();

  constructor(private readonly order: StressOrder) {
    this.rnd = random(order.seed);
    this.table = new StressTable(order.table);
  }

  private p(name: string): string {
    return `${this.dir}/${name}`;
  }

  /** A descriptor that is opened once. */
  private kept(name: string, flags: number): number {
    const key = `${name} ${flags}`;
    const fd = this.fds.get(key) ?? c.ok(c.open(this.p(name), flags | c.O.CLOEXEC), `open ${name}`);
    this.fds.set(key, fd);
    return fd;
  }

  private mapped(name: string, writable: boolean): bigint {
    const key = `${name} ${writable}`;
    let at = this.maps.get(key);
    if (at !== undefined) return at;
    const fd = c.ok(c.open(this.p(name), (writable ? c.O.RDWR : c.O.RDONLY) | c.O.CLOEXEC));
    const got = c.mmap(fd, 41 * PAGE, writable ? c.PROT.READ | c.PROT.WRITE : c.PROT.READ,
      c.MAP.SHARED);
    if (typeof got === 'string') throw new Error(`mmap ${name}: ${got}`);
    c.close(fd);
    at = got;
    this.maps.set(key, at);
    return at;
  }

  /** Some mappings are given back, so that new ones are made. */
  private forgetSome(): void {
    const [map] = this.maps;
    if (map !== undefined) {
      c.munmap(map[1], 41 * PAGE);
      this.maps.delete(map[0]);
    }
    const [fd] = this.fds;
    if (fd !== undefined) {
      c.close(fd[1]);
      this.fds.delete(fd[0]);
    }
  }

  private between(what: string, lo: number, value: number, hi: number): string | null {
    return value >= lo && value <= hi ? null : `${what}: ${value} is not in ${lo}..${hi}`;
  }

  /** Some change in lo..hi must have left this. */
  private one(what: string, lo: number, hi: number, got: string,
    left: (seq: number) => string): string | null {
    for (let s = lo; s <= hi; s++) if (left(s) === got) return null;
    return `${what}: ${got}, but changes ${lo}..${hi} leave ${left(lo)}${
      hi > lo ? ` to ${left(hi)}` : ''}`;
  }

  /**
   * SEEK_END asks the kernel, which ignores an answer of ours that an invalidation overtook and
   * then uses the size it had (fuse.md 5.7, "end-of-file lag"). Asked again it has to be right.
   */
  private end(look: () => string | null): string | null {
    const bad = look();
    if (bad === null) return null;
    this.count('late ends');
    return look();
  }

  /** A number in a file that is overwritten in place. */
  private readonly inPlace: Kind = {
    name: 'data',
    change: (o, seq) => {
      const { name, place } = placeOf(o);
      switch (this.rnd(4)) {
        case 0: {
          const fd = c.ok(c.open(this.p(name), c.O.WRONLY));
          c.ok(c.pwrite(fd, text(seq), place));
          c.close(fd);
          break;
        }
        case 1: c.ok(c.pwrite(this.kept(name, c.O.RDWR), text(seq), place)); break;
        case 2: c.poke(this.mapped(name, true) + BigInt(place), text(seq)); break;
        default: c.ok(c.pwrite(this.kept(name, c.O.WRONLY | c.O.DIRECT), text(seq), place));
      }
    },
    look: (o) => (lo, hi) => {
      const { name, place } = placeOf(o);
      const buf = Buffer.alloc(NUMBER_BYTES);
      let how = '';
      let got: Buffer = buf;
      switch (this.rnd(5)) {
        case 0: {
          how = 'open and read';
          const fd = c.ok(c.open(this.p(name), c.O.RDONLY));
          c.ok(c.pread(fd, buf, NUMBER_BYTES, place));
          c.close(fd);
          break;
        }
        case 1:
          how = 'read';
          c.ok(c.pread(this.kept(name, c.O.RDONLY), buf, NUMBER_BYTES, place));
          break;
        case 2:
          how = 'direct read';
          c.ok(c.pread(this.kept(name, c.O.RDONLY | c.O.DIRECT), buf, NUMBER_BYTES, place));
          break;
        case 3:
          how = 'read-only mapping';
          got = c.peek(this.mapped(name, false) + BigInt(place), NUMBER_BYTES);
          break;
        default:
          how = 'mapping';
          got = c.peek(this.mapped(name, true) + BigInt(place), NUMBER_BYTES);
      }
      return this.between(`${name}, ${how}`, lo, Number(got.toString('latin1')), hi());
    },
  };

  /** A file that is replaced by a rename. */
  private readonly replaced: Kind = {
    name: 'replace',
    change: (o, seq) => {
      const tmp = this.p(`tmp-${this.order.worker}`);
      const fd = c.ok(c.open(tmp, c.O.CREAT | c.O.TRUNC | c.O.WRONLY));
      c.ok(c.write(fd, text(seq)));
      c.close(fd);
      c.ok(c.rename(tmp, this.p(`replace${o}`)), 'replace');
    },
    look: (o) => (lo, hi) => {
      const fd = c.ok(c.open(this.p(`replace${o}`), c.O.RDONLY), 'a replaced name');
      const buf = Buffer.alloc(NUMBER_BYTES);
      c.ok(c.read(fd, buf));
      c.close(fd);
      return this.between(`replace${o}`, lo, Number(buf.toString('latin1')), hi());
    },
  };

  private readonly attributes: Kind = {
    name: 'attr',
    change: (o, seq) => {
      const time: c.Time = [seq, 0];
      c.ok(c.utimens(this.p(`attr${o}`), [time, time]));
    },
    look: (o) => (lo, hi) => {
      const s = this.rnd(2) === 0 ? c.lstat(this.p(`attr${o}`)) :
        c.fstat(this.kept(`attr${o}`, c.O.RDONLY));
      return this.between(`attr${o}, mtime`, lo, Number(s.mtime / 1_000_000_000n), hi());
    },
  };

  /** Grows by steps and is cut at the end of a round, now and then under a dirty mapping. */
  private readonly sizes: Kind = {
    name: 'size',
    change: (o, seq) => {
      const want = (seq % SIZE_ROUND) * SIZE_STEP;
      if (this.rnd(2) === 0) c.ok(c.truncate(this.p(`size${o}`), want));
      else c.ok(c.ftruncate(this.kept(`size${o}`, c.O.RDWR), want));
    },
    look: (o) => (lo, hi) => {
      const name = `size${o}`;
      const left = (s: number): string => String(s % SIZE_ROUND * SIZE_STEP);
      switch (this.rnd(3)) {
        case 0: {
          const { size } = c.lstat(this.p(name));
          return this.one(`${name}, stat`, lo, hi(), String(size), left);
        }
        case 1: {
          const { size } = c.fstat(this.kept(name, c.O.RDWR));
          return this.one(`${name}, fstat`, lo, hi(), String(size), left);
        }
        default: {
          const fd = this.kept(name, c.O.RDWR);
          return this.end(() => this.one(`${name}, SEEK_END`, lo,
            ...swap(String(c.lseek(fd, 0, c.SEEK.END)), hi()), left));
        }
      }
    },
  };

  /** A name that is there after every odd change. */
  private readonly names: Kind = {
    name: 'name',
    change: (o, seq, unsure) => {
      const path = this.p(`name${o}`);
      if (seq % 2 === 1) {
        const r = o % 2 === 0 ? c.creat(path) : c.mkdir(path);
        if (r !== 0 && !(unsure && r === 'EEXIST')) throw new Error(`create name${o}: ${r}`);
      } else {
        const r = o % 2 === 0 ? c.unlink(path) : c.rmdir(path);
        if (r !== 0 && !(unsure && r === 'ENOENT')) throw new Error(`remove name${o}: ${r}`);
      }
    },
    look: (o) => (lo, hi) => {
      let there: boolean;
      if (this.rnd(6) === 0) {
        const fd = c.ok(c.open(this.dir, c.O.RDONLY | c.O.DIRECTORY));
        there = c.listAll(fd).some((e) => e.name === `name${o}`);
        c.close(fd);
      } else {
        const r = c.statErr(this.p(`name${o}`));
        if (r !== 0 && r !== 'ENOENT') return `name${o}: ${r}`;
        there = r === 0;
      }
      return this.one(`name${o}`, lo, hi(), there ? 'there' : 'not there',
        (s) => s % 2 === 1 ? 'there' : 'not there');
    },
  };

  /** A name that moves through three directories. */
  private readonly moves: Kind = {
    name: 'move',
    change: (o, seq, unsure) => {
      const [from, to] = [(seq - 1) % DIRS, seq % DIRS];
      const r = c.rename(this.p(`dir${from}/move${o}`), this.p(`dir${to}/move${o}`));
      if (r === 0) return;
      if (!unsure || r !== 'ENOENT') throw new Error(`rename move${o}: ${r}`);
      // the change before was not made: the name is still one further back
      c.ok(c.rename(this.p(`dir${(seq + 1) % DIRS}/move${o}`), this.p(`dir${to}/move${o}`)));
    },
    look: (o) => (lo, hi) => {
      const d = this.rnd(DIRS);
      const r = c.statErr(this.p(`dir${d}/move${o}`));
      return this.one(`move${o} in dir${d}`, lo, hi(), String(r),
        (s) => s % DIRS === d ? '0' : 'ENOENT');
    },
  };

  private readonly links: Kind = {
    name: 'link',
    change: (o, seq, unsure) => {
      const other = this.p(`dir0/second${o}`);
      const r = seq % 2 === 1 ? c.link(this.p(`link${o}`), other) : c.unlink(other);
      if (r !== 0 && !(unsure && (r === 'EEXIST' || r === 'ENOENT'))) {
        throw new Error(`link${o}: ${r}`);
      }
    },
    look: (o) => (lo, hi) => this.one(`link${o}, links`, lo,
      ...swap(String(c.lstat(this.p(`link${o}`)).nlink), hi()),
      (s) => String(1 + s % 2)),
  };

  /** Records "<seq>", emptied when it is long. */
  private readonly appends: Kind = {
    name: 'append',
    change: (o, seq, unsure) => {
      const name = `append${o}`;
      if (unsure || seq % LOG_MAX_RECORDS === 0) {
        // begins anew with what the file has to have now
        const fd = c.ok(c.open(this.p(name), c.O.WRONLY | c.O.TRUNC));
        const records = Array.from({ length: seq % LOG_MAX_RECORDS }, () => record(0)).join('');
        if (records !== '') c.ok(c.pwrite(fd, records, 0));
        c.close(fd);
        return;
      }
      const fd = this.rnd(2) === 0 ? this.kept(name, c.O.WRONLY | c.O.APPEND) :
        c.ok(c.open(this.p(name), c.O.WRONLY | c.O.APPEND));
      c.ok(c.write(fd, record(seq)));
      if (this.fds.get(`${name} ${c.O.WRONLY | c.O.APPEND}`) !== fd) c.close(fd);
    },
    look: (o) => (lo, hi) => {
      const name = `append${o}`;
      const fd = c.ok(c.open(this.p(name), c.O.RDONLY));
      const size = Number(c.fstat(fd).size);
      const buf = Buffer.alloc(RECORD_BYTES);
      const n = size === 0 ? 0 : c.ok(c.pread(fd, buf, RECORD_BYTES, size - RECORD_BYTES));
      c.close(fd);
      const end = hi();
      if (end - lo > LOG_MAX_RECORDS / 2) return null;
      const bad = this.one(`${name}, size`, lo, end, String(size),
        (s) => String(s % LOG_MAX_RECORDS * RECORD_BYTES));
      if (bad !== null || size === 0) return bad;
      // it may have been emptied between the two calls
      const round = (s: number): number => Math.floor(s / LOG_MAX_RECORDS);
      if (n === 0 && round(end) > round(lo)) return null;
      return n === RECORD_BYTES && /^\d{15}\n$/.test(buf.toString('latin1')) ? null :
        `${name}: the last record is "${buf.toString('latin1', 0, n)}"`;
    },
  };

  /** What objects have to have before the first change. Only one worker makes it. */
  static prepare(dir: string, area: number): void {
    const p = (name: string): string => `${dir}/${name}`;
    c.ok(c.mkdir(dir), 'mkdir');
    for (let d = 0; d < DIRS; d++) c.ok(c.mkdir(p(`dir${d}`)), 'mkdir');
    for (let o = area * AREA_OBJECTS; o < (area + 1) * AREA_OBJECTS; o++) {
      const kind = o % KINDS;
      const make = (name: string, at: number, contents: string): void => {
        const fd = c.ok(c.open(p(name), c.O.CREAT | c.O.WRONLY), name);
        if (contents !== '') c.ok(c.pwrite(fd, contents, at));
        c.close(fd);
      };
      if (kind === 0) {
        const { name, place } = placeOf(o);
        make(name, 41 * PAGE - 1, '\0');
        make(name, place, text(0));
      }
      if (kind === 1) make(`replace${o}`, 0, text(0));
      if (kind === 2) {
        make(`attr${o}`, 0, '');
        c.ok(c.utimens(p(`attr${o}`), [[0, 0], [0, 0]]));
      }
      if (kind === 3) make(`size${o}`, 0, '');
      if (kind === 5) make(`dir0/move${o}`, 0, '');
      if (kind === 6) make(`link${o}`, 0, '');
      if (kind === 7) make(`append${o}`, 0, '');
    }
  }

  private kindOf(o: number): Kind {
    const by = [this.inPlace, this.replaced, this.attributes, this.sizes, this.names, this.moves,
      this.links, this.appends];
    const kind = by[o % by.length];
    if (kind === undefined) throw new Error('no kind');
    return kind;
  }

  run(): void {
    const { order, table } = this;
    for (let nowMs = Date.now(); nowMs < order.endMs && this.problems < PROBLEMS_MAX;
      nowMs = Date.now()) {
      const area = this.rnd(order.areas);
      this.dir = areaDir(order.dir, area);
      const o = area * AREA_OBJECTS + this.rnd(AREA_OBJECTS);
      const kind = this.kindOf(o);
      // in a quiet area the kernel may keep things, which the next change has to take away
      const quiet = (Math.floor(nowMs / PHASE_MS) + area) % 2 === 0;
      const change = this.rnd(quiet ? CHANGE_QUIET : CHANGE_BUSY) === 0;
      table.working(order.worker, o * 2 + (change ? 1 : 0), this.ops++);
      try {
        if (change) this.change(kind, o);
        else this.look(kind, o);
      } catch (e) {
        this.tell(`${kind.name}${o}: ${e instanceof Error ? e.message : String(e)}`);
      }
      if (this.rnd(200) === 0) this.forgetSome();
    }
    table.working(order.worker, -1, this.ops);
  }

  private change(kind: Kind, o: number): void {
    const claim = this.table.begin(o);
    if (claim === null) return;
    kind.change(o, claim.seq, claim.unsure);
    this.table.end(o, claim);
    this.count(`${kind.name} changed`);
  }

  private look(kind: Kind, o: number): void {
    const lo = this.table.done(o);
    const bad = kind.look(o)(lo, () => this.table.begun(o));
    if (bad !== null) this.tell(bad);
    this.count(`${kind.name} seen`);
  }

  private count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  private tell(problem: string): void {
    this.problems++;
    process.send?.({ problem: `mount ${this.order.mount}: ${problem}` });
  }
}

function record(seq: number): string {
  return `${String(seq).padStart(RECORD_BYTES - 1, '0')}\n`;
}

function swap(got: string, hi: number): [hi: number, got: string] {
  return [hi, got];
}

/** Makes an area through one mount: its inodes are in that mount's groups. */
export function prepareStress(dir: string, area: number): void {
  Worker.prepare(areaDir(dir, area), area);
}

function areaDir(dir: string, area: number): string {
  return `${dir}/area${area}`;
}

/** Name of what a worker's `kind` word says. */
export function describe(kind: number): string {
  if (kind < 0) return 'nothing';
  const names = ['data', 'replace', 'attr', 'size', 'name', 'move', 'link', 'append'];
  const o = kind >> 1;
  return `${kind % 2 === 1 ? 'changing' : 'looking at'} ${names[o % names.length] ?? ''}${o}`;
}

if (process.argv[2] !== undefined && process.send !== undefined &&
  process.argv[1]?.endsWith('stress_worker.js') === true) {
  const worker = new Worker(JSON.parse(process.argv[2]) as StressOrder);
  worker.run();
  process.send({ counts: worker.counts }, () => { process.exit(0); });
}
