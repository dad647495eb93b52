/**
 * Runs areas of the POSIX suite on one real mount.
 *
 * An area is a function that gets a fresh directory and a tap test. `both` runs a case
 * twice, as root and as an unprivileged user in a directory of its own; what depends on
 * privilege says `as(USER, ...)` itself. Whatever an area did, the volume must be sound
 * after it: the runner unmounts, runs `scoutfs check`, and expects no finding.
 */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { Rig, skipWithoutFuse } from '../../lib/mounted.js';
import * as c from '../../lib/syscalls.js';

export const ROOT = c.ROOT;
/** Two users without privileges and without common groups. */
export const USER: c.User = { uid: 65534, gid: 65533, groups: [65533] };
export const OTHER: c.User = { uid: 65531, gid: 65530, groups: [65530] };

/** The longest name, and one too long. */
export const NAME_255 = 'n'.repeat(255);
export const NAME_256 = 'n'.repeat(256);

/** Where an area works. */
export class Area {
  private nr = 0;

  constructor(readonly t: Test, readonly dir: string, readonly rig: Rig) {}

  p(...parts: string[]): string {
    return join(this.dir, ...parts);
  }

  /** A case as root and as USER, each in a fresh directory that it owns. */
  both(name: string, run: (t: Test, dir: string, who: c.User) => void): void {
    for (const who of [ROOT, USER]) {
      this.in(`${name} (${who.uid === 0 ? 'root' : 'user'})`, who, run);
    }
  }

  /** A case as root. */
  root(name: string, run: (t: Test, dir: string, who: c.User) => void): void {
    this.in(name, ROOT, run);
  }

  /** A case as USER. */
  user(name: string, run: (t: Test, dir: string, who: c.User) => void): void {
    this.in(`${name} (user)`, USER, run);
  }

  private in(name: string, who: c.User, run: (t: Test, dir: string, who: c.User) => void): void {
    const dir = this.p(`c${this.nr++}`);
    c.ok(c.mkdir(dir), 'mkdir');
    c.ok(c.chown(dir, who.uid, who.gid), 'chown');
    void this.t.test(name, (tt) => {
      c.as(who, () => { run(tt, dir, who); });
      tt.end();
    });
  }
}

export type AreaFn = (x: Area) => void;

/** One mount for these areas; a test file calls it once. */
export function runAreas(name: string, areas: Record<string, AreaFn>, options = ''): void {
  void t.test(name, { skip: skipWithoutFuse() }, async (tt) => {
    const rig = new Rig(`posix-${name}`);
    tt.teardown(() => { rig.end(); });
    chmodSync(rig.dir, 0o755);
    await rig.mkfs();
    rig.mount(options);
    const umask = process.umask(0);
    for (const [area, run] of Object.entries(areas)) {
      const dir = join(rig.mnt, area);
      c.ok(c.mkdir(dir), 'mkdir');
      await tt.test(area, (at) => {
        run(new Area(at, dir, rig));
        at.end();
      });
    }
    process.umask(umask);
    rig.umount();
    tt.strictSame(rig.check(), [], 'check is clean');
    tt.notMatch(rig.logText(), / (error|fatal) /, 'the daemon logged no error');
  });
}

/** `fd` of an open that must succeed. */
export function fdOf(path: c.Path, flags: number, mode = 0o644): number {
  return c.ok(c.open(path, flags, mode), `open ${String(path)}`);
}

/** A file with contents. */
export function put(path: c.Path, data: string | Uint8Array = '', mode = 0o644): void {
  const fd = fdOf(path, c.O.CREAT | c.O.WRONLY | c.O.TRUNC, mode);
  if (data.length > 0) c.ok(c.write(fd, data), 'write');
  c.close(fd);
}

/** Contents as latin1. */
export function get(path: c.Path): string {
  const fd = fdOf(path, c.O.RDONLY);
  const all: Buffer[] = [];
  for (;;) {
    const buf = Buffer.alloc(1 << 20);
    const n = c.ok(c.read(fd, buf), 'read');
    if (n === 0) break;
    all.push(buf.subarray(0, n));
  }
  c.close(fd);
  return Buffer.concat(all).toString('latin1');
}

/** Lets the clock of times move on: the next change has a later time. */
export function tick(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
}
