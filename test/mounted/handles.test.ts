/**
 * File handles on a real mount: the table of ioctl.md 8 row by row, with warm and cold
 * caches and after a remount, and the traps of export.md 5 that a mount can show.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { AT_HANDLE_CONNECTABLE, handMade, handleOf, openHandle } from '../lib/handles.js';
import type { Handle } from '../lib/handles.js';
import { Rig, skipWithoutFuse, sleepMs } from '../lib/mounted.js';

const skip = skipWithoutFuse();
const [ESTALE, EOVERFLOW, EPERM] = [-116, 75, -1];
/** The kernel's own work behind a call is done by then, 20 ms each. */
const RETRIES = 250;
const O_PATH = 0o10000000;
const O_DIRECTORY = 0o200000;

/** Makes the kernel forget every name and inode that nobody uses. */
function dropCaches(): void {
  fs.writeFileSync('/proc/sys/vm/drop_caches', '2');
}

/** Path of what a handle opens, or the negative errno. */
function pathBehind(mountFd: number, handle: Handle, flags = 0): string | number {
  const fd = openHandle(mountFd, handle, flags);
  if (fd < 0) return fd;
  const path = fs.readlinkSync(`/proc/self/fd/${fd}`);
  fs.closeSync(fd);
  return path;
}

function contentsBehind(mountFd: number, handle: Handle): string | number {
  const fd = openHandle(mountFd, handle);
  if (fd < 0) return fd;
  const text = fs.readFileSync(fd, 'utf8');
  fs.closeSync(fd);
  return text;
}

/** What opening a handle gives to a process that has given up being root. */
function openedUnprivileged(mnt: string, handle: Handle): number {
  const program = `
    import { openSync } from 'node:fs';
    import { openHandle } from '${new URL('../lib/handles.js', import.meta.url).href}';
    const root = openSync('${mnt}', 'r');
    process.setgroups([]);
    process.setgid(2001);
    process.setuid(2001);
    const bytes = Buffer.from('${handle.bytes.toString('hex')}', 'hex');
    console.log(openHandle(root, { type: ${handle.type}, bytes }));`;
  // without env, the test runner would load itself into it
  return Number(execFileSync('env',
    ['NODE_OPTIONS=', process.execPath, '--input-type=module', '-e', program],
    { encoding: 'utf8' }));
}

/** The handle of a path and its parent; null where the kernel gives none. */
function connectable(path: string): Handle | null {
  try {
    return handleOf(path, undefined, AT_HANDLE_CONNECTABLE);
  } catch {
    return null;
  }
}

/** LOOKUPs that `fn` causes. */
function lookups(rig: Rig, fn: () => void): number {
  const before = rig.counters().requests['LOOKUP'] ?? 0;
  fn();
  return (rig.counters().requests['LOOKUP'] ?? 0) - before;
}

void t.test('the table of ioctl.md 8', { skip }, async (tt) => {
  const rig = new Rig('handles');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  const p = (...parts: string[]): string => join(rig.mnt, ...parts);
  fs.mkdirSync(p('a', 'b', 'c'), { recursive: true });
  fs.writeFileSync(p('a', 'b', 'file'), 'contents');
  fs.symlinkSync('file', p('a', 'b', 'link'));
  const { ino } = fs.statSync(p('a', 'b', 'file'));
  const dirIno = fs.statSync(p('a', 'b', 'c')).ino;

  const given = handleOf(p('a', 'b', 'file'));
  tt.equal(given.type, 0x81);
  tt.same(given.bytes, handMade(ino, 4).bytes, 'ino as LE64, then 4 zero bytes');
  tt.throws(() => handleOf(p('a'), 8), new RegExp(`errno ${EOVERFLOW}`), '12 bytes are needed');

  let root = fs.openSync(rig.mnt, 'r');
  const rows = (when: string): void => {
    tt.equal(contentsBehind(root, given), 'contents', `${when}: the kernel's handle`);
    tt.equal(contentsBehind(root, handMade(ino, 8)), 'contents', `${when}: 16 bytes`);
    tt.equal(contentsBehind(root, handMade(ino, 4)), 'contents', `${when}: 12 bytes`);
    tt.equal(openHandle(root, handMade(ino, 0)), ESTALE, `${when}: 8 bytes`);
    tt.equal(openHandle(root, handMade(ino, 8, 0x55)), ESTALE, `${when}: junk behind the number`);
    tt.equal(openHandle(root, handMade(1, 8)), ESTALE, `${when}: the root by its number`);
    tt.equal(openHandle(root, handMade(ino + 100_000, 8)), ESTALE, `${when}: an unknown inode`);
    tt.equal(openHandle(root, handMade(BigInt(ino) + (1n << 32n), 8)), ESTALE,
      `${when}: the high half is part of the number`);
    tt.equal(openHandle(root, handMade(0, 8)), ESTALE, `${when}: number 0`);
    tt.equal(openHandle(root, handMade(2n ** 53n + 2n, 8)), ESTALE, `${when}: too large`);
    tt.equal(openHandle(root, handMade(2n ** 64n - 1n, 8)), ESTALE, `${when}: all ones`);
    tt.equal(pathBehind(root, handMade(dirIno, 8), O_DIRECTORY), p('a', 'b', 'c'),
      `${when}: a directory has its whole path`);
  };
  rows('cached');
  dropCaches();
  tt.ok(lookups(rig, () => { rows('dropped'); }) > 0, 'handles of dropped inodes ask the daemon');
  dropCaches();
  const linkHandle = handMade(fs.lstatSync(p('a', 'b', 'link')).ino, 4);
  dropCaches();
  const linkFd = openHandle(root, linkHandle, O_PATH);
  tt.ok(linkFd > 0, 'a symlink, as a path');
  fs.closeSync(linkFd);
  fs.closeSync(root);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');

  rig.mount();
  root = fs.openSync(rig.mnt, 'r');
  tt.equal(pathBehind(root, handMade(dirIno, 8)), p('a', 'b', 'c'),
    'after a remount the first request is a handle, and the directory is connected');
  rows('remounted');
  tt.equal(rig.logText().includes('unexpectedly'), false);
  fs.closeSync(root);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});

void t.test('handles and names that change', { skip }, async (tt) => {
  const rig = new Rig('handle-names');
  tt.teardown(() => { rig.end(); });
  await rig.mkfs();
  rig.mount();
  const p = (...parts: string[]): string => join(rig.mnt, ...parts);
  const root = fs.openSync(rig.mnt, 'r');
  fs.mkdirSync(p('old', 'deep'), { recursive: true });
  fs.writeFileSync(p('old', 'leaf'), 'x');
  const inoOf = (...parts: string[]): number => fs.statSync(p(...parts)).ino;
  const leaf = connectable(p('old', 'leaf'));
  if (leaf === null) {
    tt.pass('a handle with its parent', { skip: 'this kernel gives none (before 6.13)' });
  } else {
    tt.equal(leaf.type & 0xff, 0x82);
    tt.same(leaf.bytes, Buffer.concat([handMade(inoOf('old', 'leaf'), 4).bytes,
      handMade(inoOf('old'), 4).bytes]), 'both numbers, each as LE64 and 4 zero bytes');
    dropCaches();
    tt.equal(pathBehind(root, leaf), p('old', 'leaf'), 'a file is connected by its parent');
  }
  fs.mkdirSync(p('new'));
  const deep = handleOf(p('old', 'deep'));
  fs.renameSync(p('old', 'deep'), p('new', 'moved'));
  dropCaches();
  tt.equal(pathBehind(root, deep), p('new', 'moved'), 'a renamed directory under its new name');

  fs.writeFileSync(p('f'), 'x');
  const file = handleOf(p('f'));
  fs.linkSync(p('f'), p('new', 'g'));
  fs.unlinkSync(p('f'));
  dropCaches();
  tt.equal(contentsBehind(root, file), 'x', 'any of its links will do');
  const stat = fs.statSync(p('new', 'g'));
  fs.unlinkSync(p('new', 'g'));
  dropCaches();
  tt.equal(openHandle(root, file), ESTALE, 'none is left: the inode is not opened again');
  tt.equal(openHandle(root, handMade(stat.ino, 8)), ESTALE);

  // An open file keeps the handle usable in the kernel, which then asks nobody; the open map
  // keeps the inode from being deleted meanwhile.
  fs.writeFileSync(p('kept'), 'still here');
  const kept = handleOf(p('kept'));
  const fd = fs.openSync(p('kept'), 'r');
  fs.unlinkSync(p('kept'));
  tt.equal(fs.readFileSync(fd, 'utf8'), 'still here');
  fs.closeSync(fd);
  // the kernel lets go of the inode when its RELEASE has been answered
  let answer: string | number = '';
  for (let i = 0; i < RETRIES && answer !== ESTALE; i++) {
    dropCaches();
    answer = pathBehind(root, kept);
    sleepMs(20);
  }
  tt.equal(answer, ESTALE, 'gone with the last close');

  const made = handleOf(p('new', 'moved'));
  tt.equal(openedUnprivileged(rig.mnt, made), EPERM, 'without CAP_DAC_READ_SEARCH');
  fs.closeSync(root);
  rig.umount();
  tt.strictSame(rig.check(), [], 'check is clean');
});
