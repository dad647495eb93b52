/**
 * Compares a mounted volume, entry by entry, with a manifest that upstream's kernel
 * module gave of the same volume.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { getXattr, ioctl, listXattrs } from './posix.js';
import { fixtureText } from './shared.js';

interface Entry {
  path_b64: string; path: string; ino: number; type: string; mode: string; uid: number;
  gid: number; nlink: number; size: number; st_blocks: number; atime_ns: number; mtime_ns: number;
  ctime_ns: number; rdev?: [number, number]; target_b64?: string; sha256?: string;
  data_segments?: [number, number, string][]; listxattr: string[]; xattrs: Record<string, string>;
  hidden_xattrs?: string[]; offline?: boolean;
  stat_more?: Record<'meta_seq' | 'data_seq' | 'data_version' | 'online_blocks' |
  'offline_blocks' | 'crtime_sec' | 'crtime_nsec', number>;
}

const IOC_STAT_MORE = 0x8038e805;
const STAT_MORE_BYTES = 56;
const TYPES: Record<string, number> = {
  file: 0o100000, dir: 0o040000, symlink: 0o120000, char: 0o020000, block: 0o060000,
  fifo: 0o010000, socket: 0o140000,
};
/** JSON.parse rounds large integers: these fields are read as text. */
const BIG_FIELD = /"(atime_ns|mtime_ns|ctime_ns|size|ino)": (-?\d+)/g;
const BIG_SEGMENT = /\[\[(\d+), (\d+), "([0-9a-f]+)"\]\]/g;

type BigEntry = Omit<Entry, 'atime_ns' | 'mtime_ns' | 'ctime_ns' | 'size' | 'ino' |
'data_segments'> & { atime_ns: string; mtime_ns: string; ctime_ns: string; size: string;
  ino: string; data_segments?: [string, string, string][] };

function parse(line: string): BigEntry {
  return JSON.parse(line.replace(BIG_FIELD, '"$1": "$2"')
    .replace(BIG_SEGMENT, '[["$1", "$2", "$3"]]')) as BigEntry;
}

function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

function hashFile(path: Buffer): string {
  const h = createHash('sha256');
  const fd = fs.openSync(path, 'r');
  const buf = Buffer.alloc(1 << 20);
  for (let n = fs.readSync(fd, buf, 0, buf.length, null); n > 0;
    n = fs.readSync(fd, buf, 0, buf.length, null)) h.update(buf.subarray(0, n));
  fs.closeSync(fd);
  return h.digest('hex');
}

class Comparison {
  readonly differences: string[] = [];
  entries = 0;

  constructor(private readonly root: string) {}

  private differ(path: string, what: string, want: unknown, got: unknown): void {
    if (String(want) === String(got)) return;
    this.differences.push(`${path}: ${what}: manifest ${String(want)}, mount ${String(got)}`);
  }

  entry(e: BigEntry): void {
    this.entries += 1;
    // paths are bytes: give Node the bytes
    const at = Buffer.concat([Buffer.from(`${this.root}/`), Buffer.from(e.path_b64, 'base64')]);
    const st = fs.lstatSync(at, { bigint: true });
    const d = (what: string, want: unknown, got: unknown): void => {
      this.differ(e.path, what, want, got);
    };
    d('ino', e.ino, st.ino);
    d('mode', ((TYPES[e.type] ?? 0) | parseInt(e.mode, 8)).toString(8), st.mode.toString(8));
    d('uid', e.uid, st.uid);
    d('gid', e.gid, st.gid);
    d('nlink', e.nlink, st.nlink);
    d('size', e.size, st.size);
    d('blocks', e.st_blocks, st.blocks);
    d('mtime', e.mtime_ns, st.mtimeNs);
    d('ctime', e.ctime_ns, st.ctimeNs);
    d('atime', e.atime_ns, st.atimeNs);
    if (e.rdev !== undefined) {
      const major = ((st.rdev >> 8n) & 0xfffn) | ((st.rdev >> 32n) & ~0xfffn);
      const minor = (st.rdev & 0xffn) | ((st.rdev >> 12n) & ~0xffn);
      d('rdev', e.rdev.join(':'), `${major}:${minor}`);
    }
    if (e.target_b64 !== undefined) {
      d('target', e.target_b64, fs.readlinkSync(at, { encoding: 'base64' as BufferEncoding }));
    }
    this.xattrs(e, at);
    if (e.type === 'file') this.contents(e, at);
    if (e.stat_more !== undefined) this.statMore(e, at);
  }

  private xattrs(e: BigEntry, path: Buffer): void {
    const list = [...listXattrs(path)].sort();
    this.differ(e.path, 'xattr names', [...e.listxattr].sort().join(), list.join());
    for (const [name, value] of Object.entries(e.xattrs)) {
      const got = getXattr(path, name);
      this.differ(e.path, `xattr ${name}`, value,
        typeof got === 'number' ? `errno ${got}` : got.toString('base64'));
    }
  }

  private contents(e: BigEntry, at: Buffer): void {
    if (e.sha256 !== undefined) this.differ(e.path, 'contents', e.sha256, hashFile(at));
    for (const [off, len, hash] of e.data_segments ?? []) {
      const fd = fs.openSync(at, 'r');
      const buf = Buffer.alloc(Number(len));
      fs.readSync(fd, buf, 0, buf.length, BigInt(off));
      fs.closeSync(fd);
      this.differ(e.path, `contents at ${off}`, hash, sha256(buf));
    }
  }

  private statMore(e: BigEntry, path: Buffer): void {
    if (e.type !== 'file' && e.type !== 'dir') return;
    const fd = fs.openSync(path, 'r');
    const buf = Buffer.alloc(STAT_MORE_BYTES);
    const r = ioctl(fd, IOC_STAT_MORE, buf);
    fs.closeSync(fd);
    this.differ(e.path, 'stat_more result', 0, r);
    const names = ['meta_seq', 'data_seq', 'data_version', 'online_blocks', 'offline_blocks',
      'crtime_sec'] as const;
    names.forEach((name, i) => {
      this.differ(e.path, name, e.stat_more?.[name], buf.readBigUInt64LE(i * 8));
    });
    this.differ(e.path, 'crtime_nsec', e.stat_more?.crtime_nsec, buf.readUInt32LE(48));
  }
}

/** Compares the mount at `root` with a fixture's manifest. @returns entries and differences */
export function compareManifest(fixture: string, file: string, root: string):
{ entries: number; differences: string[] } {
  const c = new Comparison(root);
  for (const line of fixtureText(fixture, file).split('\n')) {
    if (line !== '') c.entry(parse(line));
  }
  return { entries: c.entries, differences: c.differences };
}
