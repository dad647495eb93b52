/**
 * What the helper processes of these tests do on one mount each.
 *
 * A task is a plain function of system calls, run by an actor (`actors.ts`) while others run
 * in other processes. It answers what it saw; a string that begins with "bad:" is something
 * that must not happen. Paths are of the mount that the caller chose.
 */
import { basename } from 'node:path';
import { handMade, openHandle } from '../lib/handles.js';
import * as c from '../lib/syscalls.js';

const PAGE = 4096;
const MUTEX_PAUSE_MS = 1;

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

export function putFile(path: string, text: string): void {
  const fd = c.ok(c.open(path, c.O.CREAT | c.O.TRUNC | c.O.WRONLY, 0o644), `open ${path}`);
  if (text !== '') c.ok(c.write(fd, text), `write ${path}`);
  c.close(fd);
}

export function getFile(path: string, flags: number = c.O.RDONLY): string {
  const fd = c.ok(c.open(path, flags), `open ${path}`);
  const all: Buffer[] = [];
  for (;;) {
    const buf = Buffer.alloc(1 << 16);
    const n = c.ok(c.read(fd, buf), `read ${path}`);
    if (n === 0) break;
    all.push(buf.subarray(0, n));
  }
  c.close(fd);
  return Buffer.concat(all).toString('latin1');
}

/** The rest of a listing; that of a directory which others remove meanwhile ends there. */
function listOf(fd: number): c.Dirent[] {
  const all: c.Dirent[] = [];
  for (;;) {
    const some = c.getdents(fd);
    if (some === 'ENOENT' || some.length === 0) return all;
    if (typeof some === 'string') throw new Error(`getdents: ${some}`);
    all.push(...some);
  }
}

/** Whoever makes the name has the mutex. Names can be made in four ways. */
const TAKE: Record<string, (path: string, own: string) => c.Res> = {
  open: (path) => c.touch(path, c.O.CREAT | c.O.EXCL | c.O.WRONLY),
  mkdir: (path) => c.mkdir(path),
  link: (path, own) => c.link(own, path),
  rename: (path, own) => {
    const r = c.rename(own, path, c.RENAME.NOREPLACE);
    if (r === 0) putFile(own, '');
    return r;
  },
};

export const TASKS = {
  /** The call races those of other actors. @returns its result */
  renameNoReplace: (from: string, to: string): c.Res => c.rename(from, to, c.RENAME.NOREPLACE),

  createExclusive: (path: string): c.Res => c.touch(path, c.O.CREAT | c.O.EXCL | c.O.WRONLY),

  /** Files `<dir>/<prefix><i>`. @returns failures */
  createMany(dir: string, prefix: string, count: number): string[] {
    const out: string[] = [];
    for (let i = 0; i < count; i++) {
      const r = c.creat(`${dir}/${prefix}${i}`);
      if (typeof r === 'string') out.push(`${prefix}${i}: ${r}`);
    }
    return out;
  },

  unlinkMany(dir: string, prefix: string, count: number): string[] {
    const out: string[] = [];
    for (let i = 0; i < count; i++) {
      const r = c.unlink(`${dir}/${prefix}${i}`);
      if (typeof r === 'string') out.push(`${prefix}${i}: ${r}`);
    }
    return out;
  },

  /** Removes what it finds until nothing is left; others do the same. @returns bad errors */
  removeAll(dir: string): string[] {
    const out: string[] = [];
    const walk = (at: string): void => {
      for (let again = true; again;) {
        const fd = c.open(at, c.O.RDONLY | c.O.DIRECTORY);
        if (typeof fd === 'string') {
          if (fd !== 'ENOENT') out.push(`${at}: ${fd}`);
          return;
        }
        const list = listOf(fd).filter((e) => e.name !== '.' && e.name !== '..');
        c.close(fd);
        again = list.length > 0;
        for (const e of list) {
          let r = c.unlink(`${at}/${e.name}`);
          if (r === 'EISDIR') {
            walk(`${at}/${e.name}`);
            r = c.rmdir(`${at}/${e.name}`);
          }
          if (typeof r === 'string' && r !== 'ENOENT' && r !== 'ENOTEMPTY') {
            out.push(`${at}/${e.name}: ${r}`);
          }
        }
      }
    };
    walk(dir);
    return out;
  },

  /** Appends `count` records "<who> <i>", the file opened anew for every `per` of them. */
  append(path: string, who: string, count: number, per: number): void {
    let fd: c.Res = -1;
    for (let i = 0; i < count; i++) {
      if (i % per === 0) {
        if (i > 0) c.close(fd);
        fd = c.ok(c.open(path, c.O.CREAT | c.O.APPEND | c.O.WRONLY), 'open');
      }
      const text = `${who} ${i}\n`;
      const n = c.write(c.ok(fd), text);
      if (n !== text.length) throw new Error(`append: ${n}`);
    }
    c.close(fd);
  },

  /** Adds one to the number in a file `count` times, under a mutex made of names. */
  addUnderMutex(dir: string, how: string, who: string, count: number): number {
    const [mutex, own] = [`${dir}/mutex`, `${dir}/own-${who}`];
    const take = TAKE[how];
    if (take === undefined) throw new Error(how);
    putFile(own, '');
    let tries = 0;
    for (let i = 0; i < count; i++) {
      for (;; tries++) {
        const r = take(mutex, own);
        if (r === 0) break;
        if (r !== 'EEXIST') throw new Error(`${how}: ${r}`);
        pause(MUTEX_PAUSE_MS);
      }
      putFile(`${dir}/sum`, String(Number(getFile(`${dir}/sum`)) + 1));
      c.ok(how === 'mkdir' ? c.rmdir(mutex) : c.unlink(mutex), 'give the mutex back');
    }
    c.ok(c.unlink(own));
    return tries;
  },

  /** One xattr of each file, again and again. */
  setXattrs(paths: string[], value: string, rounds: number): string[] {
    const out: string[] = [];
    for (let i = 0; i < rounds; i++) {
      for (const path of paths) {
        const r = c.setxattr(path, 'user.race', `${value} ${i}`);
        if (r !== 0) out.push(`${path}: ${r}`);
      }
    }
    return out;
  },

  /** Fills blocks `who`, `who + of`, ... of a file that others fill too. */
  writeStripes(path: string, who: number, of: number, count: number): void {
    const fd = c.ok(c.open(path, c.O.WRONLY), 'open');
    for (let i = 0; i < count; i++) {
      const nr = i * of + who;
      const block = Buffer.alloc(PAGE, String.fromCharCode(97 + nr % 26));
      c.ok(c.pwrite(fd, block, nr * PAGE), 'pwrite');
    }
    c.close(fd);
  },

  /**
   * Counts up in its own word of a page that others have mapped too, by stores and by write(2)
   * in turn. A word only grows, and ours is what we put there last: anything else is a stale
   * page or a lost store.
   */
  mapCount(path: string, who: number, of: number, rounds: number): string {
    const fd = c.ok(c.open(path, c.O.RDWR), 'open');
    const at = c.mmap(fd, PAGE, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
    if (typeof at === 'string') throw new Error(`mmap: ${at}`);
    const seen = new Array<number>(of).fill(0);
    let bad = '';
    for (let i = 1; i <= rounds && bad === ''; i++) {
      for (let k = 0; k < of; k++) {
        const now = c.peek(at + BigInt(8 * k), 8).readUInt32LE(0);
        const was = seen[k] ?? 0;
        if (k === who ? now !== was : now < was) bad = `bad: word ${k} was ${was}, is ${now}`;
        seen[k] = now;
      }
      const word = Buffer.alloc(8);
      word.writeUInt32LE(i);
      if (i % 3 === 0) c.ok(c.pwrite(fd, word, 8 * who), 'pwrite');
      else c.poke(at + BigInt(8 * who), word);
      seen[who] = i;
    }
    c.munmap(at, PAGE);
    c.close(fd);
    return bad;
  },

  /** stat of every path, for a while. @returns how often, or what failed */
  statLoop(paths: string[], ms: number): number | string {
    let n = 0;
    for (const end = performance.now() + ms; performance.now() < end;) {
      for (const path of paths) {
        const r = c.statErr(path);
        if (r !== 0) return `bad: stat ${path}: ${r}`;
        n++;
      }
    }
    return n;
  },

  /** Creates or touches, and stats, for a while. @returns the slowest round in ms, or bad */
  touchLoop(dir: string, ms: number): number | string {
    let slowestMs = 0;
    let i = 0;
    for (const end = performance.now() + ms; performance.now() < end; i++) {
      const startMs = performance.now();
      const path = `${dir}/f${i % 20}`;
      const made = c.creat(path);
      if (typeof made === 'string') return `bad: creat: ${made}`;
      const time: c.Time = [i, 5];
      c.ok(c.utimens(path, [time, time]), 'utimens');
      const s = c.lstat(path);
      if (s.mtime !== BigInt(i) * 1_000_000_000n + 5n) return `bad: mtime ${s.mtime} after ${i}`;
      slowestMs = Math.max(slowestMs, performance.now() - startMs);
    }
    return i === 0 ? 'bad: nothing done' : slowestMs;
  },

  /** Opens an inode by its number again and again. @returns how often and with what errnos */
  handleLoop(mnt: string, ino: string, ms: number): Record<string, number> {
    const dirFd = c.ok(c.open(mnt, c.O.RDONLY | c.O.DIRECTORY), 'open');
    const out: Record<string, number> = {};
    for (const end = performance.now() + ms; performance.now() < end;) {
      const fd = openHandle(dirFd, handMade(BigInt(ino), 4), c.O.RDONLY);
      const what = fd < 0 ? String(fd) : 'ok';
      if (fd >= 0) c.close(fd);
      out[what] = (out[what] ?? 0) + 1;
    }
    c.close(dirFd);
    return out;
  },

  /** Opens an inode by its number while others remove it. @returns the changes of the answer */
  handleChanges(mnt: string, ino: string, ms: number): number[] {
    const dirFd = c.ok(c.open(mnt, c.O.RDONLY | c.O.DIRECTORY), 'open');
    const seen: number[] = [];
    for (const end = performance.now() + ms; performance.now() < end;) {
      const fd = openHandle(dirFd, handMade(BigInt(ino), 4), c.O.RDONLY);
      if (fd >= 0) c.close(fd);
      if (seen.at(-1) !== Math.min(fd, 0)) seen.push(Math.min(fd, 0));
    }
    c.close(dirFd);
    return seen;
  },

  /** Reads a file whole with cold caches of this process, for a while. */
  readLoop(path: string, ms: number): number | string {
    let n = 0;
    for (const end = performance.now() + ms; performance.now() < end; n++) {
      const text = getFile(path);
      if (text.length === 0) return 'bad: empty';
    }
    return n;
  },

  /** Reserves a block at a time. */
  fallocateLoop(path: string, ms: number): number | string {
    const fd = c.ok(c.open(path, c.O.RDWR | c.O.CREAT), 'open');
    let i = 0;
    for (const end = performance.now() + ms; performance.now() < end; i++) {
      const r = c.fallocate(fd, 0, i * PAGE, PAGE);
      if (r !== 0) return `bad: fallocate: ${r}`;
    }
    c.close(fd);
    return i;
  },

  /** Opens and keeps a file; answers its number of links. The descriptor stays open. */
  hold(path: string): number {
    const fd = c.ok(c.open(path, c.O.RDWR), `open ${path}`);
    held.push(fd);
    return fd;
  },

  heldText(fd: number): string {
    const buf = Buffer.alloc(1 << 16);
    return buf.toString('latin1', 0, c.ok(c.pread(fd, buf, buf.length, 0), 'pread'));
  },

  letGo(): void {
    for (const fd of held.splice(0)) c.close(fd);
  },

  /** A new directory with files f0, f1 ..., each with so many names for the search files. */
  setSrchNames(dir: string, files: number, names: number): void {
    c.ok(c.mkdir(dir));
    for (let i = 0; i < files; i++) {
      putFile(`${dir}/f${i}`, '');
      for (let k = 0; k < names; k++) {
        const name = `scoutfs.srch.${basename(dir)}.${i}.${k}`;
        c.ok(c.setxattr(`${dir}/f${i}`, name, 'v'), name);
      }
    }
  },

  /** Works in a directory. @returns what getcwd and /proc say */
  enter(dir: string): void {
    process.chdir(dir);
  },

  where(): string {
    // The C library's answer: process.cwd() remembers it.
    return `${c.readlink('/proc/self/cwd')} ${c.getcwd()}`;
  },
} as const;

const held: number[] = [];

export type Tasks = typeof TASKS;
