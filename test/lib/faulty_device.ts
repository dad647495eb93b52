/**
 * Devices of one host that fail or hang on command, for daemons that really run.
 *
 *   daemon -- pread, pwrite, fdatasync --> kernel --> this process --> image files
 *
 * A process of its own serves a small FUSE file system, a file for each image. The images are
 * everybody's; whatever is done to these files is one host's trouble. In mode `fail` all that
 * reads, writes and flushes gets EIO. In mode `hang` it gets no answer until the mode changes
 * and is done then, unless its caller has died: that is answered at once and never done, so
 * that a killed daemon can end and has written its last.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openFuseDevice } from '../../host/env/fuse-device.js';
import type { FuseDevice } from '../../host/env/fuse-device.js';
import { mountFuse, unmountFuse } from '../../host/env/fuse-mount.js';
import { REQUEST_OFF } from '../../host/env/fuse-slots.js';
import type { Slot } from '../../host/env/fuse-slots.js';
import {
  ATTR_OUT_BYTES, ENTRY_OUT_BYTES, FOPEN_DIRECT_IO, IN_HEADER_BYTES, INIT_BIT, INIT_OUT_BYTES,
  KERNEL_MAJOR, KERNEL_MINOR, OP, OPEN_OUT_BYTES, OUT_HEADER_BYTES, putU64, getU64,
} from '../../host/fuse/protocol.js';
import { ERRNO, asScoutfsError } from '../../host/observe/errors.js';

export type Mode = 'well' | 'fail' | 'hang';

/** What the process is told, and says. */
interface Told { file: number; mode: Mode }
interface Says { ready?: boolean; hit?: number }

/** The devices of one host. */
export class FaultyDevices {
  /** Requests that got EIO, or no answer. */
  hits = 0;
  private acknowledge: (() => void) | null = null;

  private constructor(private readonly dir: string, private readonly files: readonly string[],
    private readonly child: ChildProcess) {}

  /** @param images by the names that they get in `dir`, a mount point that is made */
  static async start(dir: string, images: Readonly<Record<string, string>>):
  Promise<FaultyDevices> {
    fs.mkdirSync(dir, { recursive: true });
    const child = fork(fileURLToPath(import.meta.url), [dir, JSON.stringify(images)],
      { env: { ...process.env, NODE_OPTIONS: '' }, execArgv: [] });
    const devices = new FaultyDevices(dir, Object.keys(images), child);
    await new Promise<void>((resolve, reject) => {
      child.on('message', (m: Says) => {
        if (m.ready === true) resolve();
        devices.hits += m.hit ?? 0;
        if (m.hit === undefined) devices.acknowledge?.();
      });
      child.once('exit', (status) => {
        reject(new Error(`faulty devices at ${dir} ended with ${status}`));
      });
    });
    return devices;
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  /** Resolves when it is in effect. */
  async set(name: string, mode: Mode): Promise<void> {
    const done = new Promise<void>((resolve) => { this.acknowledge = resolve; });
    this.child.send({ file: this.files.indexOf(name), mode } satisfies Told);
    await done;
  }

  /** Ends it; whoever still has the devices open gets errors. */
  async end(): Promise<void> {
    await unmountFuse(this.dir, true).catch(() => undefined);
    this.child.kill('SIGKILL');
  }
}

/** Node ids: 1 is the directory, then the files. */
const FIRST_FILE = 2;
const PID_AT = 32;
const MAX_IO_BYTES = 1 << 20;
const BACKGROUND_MAX = 64;
const FOREVER_SEC = 3600;
const ATTR_SIZE_AT = 8;
const ATTR_MODE_AT = 60;

interface Held {
  pid: number;
  serve(): void;
  refuse(): void;
}

class Server {
  private readonly modes: Mode[];
  private readonly fds: number[];
  private readonly held = new Map<number, Held>();
  private readonly pages = Buffer.alloc(MAX_IO_BYTES);

  constructor(private readonly device: FuseDevice, private readonly names: readonly string[],
    paths: readonly string[]) {
    this.modes = names.map(() => 'well');
    this.fds = paths.map((p) => fs.openSync(p, 'r+'));
  }

  setMode({ file, mode }: Told): void {
    this.modes[file] = mode;
    if (mode === 'hang') return;
    const held = [...this.held.values()];
    this.held.clear();
    for (const h of held) {
      if (fs.existsSync(`/proc/${h.pid}`)) h.serve();
      else h.refuse();
    }
  }

  request(slot: Slot): void {
    const { view } = slot;
    const opcode = view.getUint32(REQUEST_OFF + 4, true);
    const unique = getU64(view, REQUEST_OFF + 8);
    const node = getU64(view, REQUEST_OFF + 16);
    const at = REQUEST_OFF + IN_HEADER_BYTES;
    switch (opcode) {
      case OP.FORGET: case OP.BATCH_FORGET: return;
      case OP.INIT: this.init(unique); return;
      case OP.LOOKUP: this.lookup(unique, slot, at); return;
      case OP.GETATTR: this.getattr(unique, node); return;
      case OP.OPEN: this.open(unique); return;
      case OP.INTERRUPT: this.interrupt(getU64(view, at)); return;
      case OP.READ: case OP.WRITE: case OP.FSYNC:
        this.access(opcode, unique, node, slot, at);
        return;
      case OP.FLUSH: case OP.RELEASE: this.answer(unique, 0, 0); return;
      default: this.answer(unique, ERRNO.ENOSYS, 0);
    }
  }

  /** Whoever is killed while its request hangs must be let go. */
  private interrupt(unique: number): void {
    const held = this.held.get(unique);
    this.held.delete(unique);
    held?.refuse();
  }

  private access(opcode: number, unique: number, node: number, slot: Slot, at: number): void {
    const { view } = slot;
    const file = node - FIRST_FILE;
    const [offset, lenBytes] = [getU64(view, at + 8), view.getUint32(at + 16, true)];
    const bytes = opcode === OP.WRITE
      ? Buffer.from(slot.bytes.subarray(at + 40, at + 40 + lenBytes)) : null;
    const serve = (): void => {
      if (this.modes[file] === 'fail') this.answer(unique, ERRNO.EIO, 0);
      else this.transfer(opcode, unique, this.fds[file] ?? -1, offset, lenBytes, bytes);
    };
    if (this.modes[file] !== 'well') process.send?.({ hit: 1 } satisfies Says);
    if (this.modes[file] !== 'hang') {
      serve();
      return;
    }
    this.held.set(unique, { pid: view.getUint32(REQUEST_OFF + PID_AT, true), serve,
      refuse: () => { this.answer(unique, ERRNO.EINTR, 0); } });
  }

  private transfer(opcode: number, unique: number, fd: number, offset: number, lenBytes: number,
    bytes: Buffer | null): void {
    try {
      if (opcode === OP.FSYNC) {
        fs.fdatasyncSync(fd);
        this.answer(unique, 0, 0);
      } else if (bytes !== null) {
        const view = this.body();
        view.setUint32(OUT_HEADER_BYTES, fs.writeSync(fd, bytes, 0, lenBytes, offset), true);
        this.answer(unique, 0, 8);
      } else {
        const n = fs.readSync(fd, this.pages, 0, lenBytes, offset);
        this.header(unique, 0, n);
        this.device.replyData(this.pages.subarray(0, n));
      }
    } catch (e) {
      this.answer(unique, asScoutfsError(e).errnoNr, 0);
    }
  }

  private init(unique: number): void {
    const view = this.body();
    const o = OUT_HEADER_BYTES;
    view.setUint32(o, KERNEL_MAJOR, true);
    view.setUint32(o + 4, KERNEL_MINOR, true);
    view.setUint32(o + 12, 1 << INIT_BIT.ASYNC_READ | 1 << INIT_BIT.BIG_WRITES
      | 1 << INIT_BIT.MAX_PAGES, true);
    view.setUint16(o + 16, BACKGROUND_MAX, true);
    view.setUint16(o + 18, BACKGROUND_MAX, true);
    view.setUint32(o + 20, MAX_IO_BYTES, true);
    view.setUint32(o + 24, 1, true);
    view.setUint16(o + 28, MAX_IO_BYTES / 4096, true);
    this.answer(unique, 0, INIT_OUT_BYTES);
  }

  private lookup(unique: number, slot: Slot, at: number): void {
    const end = slot.bytes.indexOf(0, at);
    const file = this.names.indexOf(Buffer.from(slot.bytes.subarray(at, end)).toString());
    if (file < 0) {
      this.answer(unique, ERRNO.ENOENT, 0);
      return;
    }
    const view = this.body();
    putU64(view, OUT_HEADER_BYTES, FIRST_FILE + file);
    putU64(view, OUT_HEADER_BYTES + 16, FOREVER_SEC);
    putU64(view, OUT_HEADER_BYTES + 24, FOREVER_SEC);
    this.putAttr(view, OUT_HEADER_BYTES + 40, FIRST_FILE + file);
    this.answer(unique, 0, ENTRY_OUT_BYTES);
  }

  private getattr(unique: number, node: number): void {
    const view = this.body();
    putU64(view, OUT_HEADER_BYTES, FOREVER_SEC);
    this.putAttr(view, OUT_HEADER_BYTES + 16, node);
    this.answer(unique, 0, ATTR_OUT_BYTES);
  }

  private putAttr(view: DataView, o: number, node: number): void {
    const fd = this.fds[node - FIRST_FILE];
    putU64(view, o, node);
    putU64(view, o + ATTR_SIZE_AT, fd === undefined ? 0 : fs.fstatSync(fd).size);
    view.setUint32(o + ATTR_MODE_AT, fd === undefined ? 0o40755 : 0o100600, true);
    view.setUint32(o + ATTR_MODE_AT + 4, 1, true);
    view.setUint32(o + ATTR_MODE_AT + 20, 4096, true);
  }

  private open(unique: number): void {
    const view = this.body();
    view.setUint32(OUT_HEADER_BYTES + 8, FOPEN_DIRECT_IO, true);
    this.answer(unique, 0, OPEN_OUT_BYTES);
  }

  /** The reply's memory, zeroed as far as fixed structures go. */
  private body(): DataView {
    this.device.replyBytes.fill(0, 0, OUT_HEADER_BYTES + ENTRY_OUT_BYTES);
    return this.device.replyView;
  }

  private header(unique: number, errno: number, bodyBytes: number): void {
    const view = this.device.replyView;
    view.setUint32(0, OUT_HEADER_BYTES + bodyBytes, true);
    view.setInt32(4, -errno, true);
    putU64(view, 8, unique);
  }

  private answer(unique: number, errno: number, bodyBytes: number): void {
    this.header(unique, errno, bodyBytes);
    this.device.reply(OUT_HEADER_BYTES + bodyBytes);
  }
}

async function main(dir: string, images: Record<string, string>): Promise<void> {
  const { fd } = await mountFuse({ source: 'images', dir, subtype: 'faulty' });
  const device = openFuseDevice(fd);
  const server = new Server(device, Object.keys(images), Object.values(images));
  device.start({ request: (slot) => { server.request(slot); }, end: () => { process.exit(0); } });
  process.on('message', (m: Told) => {
    server.setMode(m);
    process.send?.({} satisfies Says);
  });
  // The test has ended without putting it away.
  process.on('disconnect', () => { void unmountFuse(dir, true).catch(() => undefined); });
  process.send?.({ ready: true } satisfies Says);
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send !== undefined) {
  const [dir = '', images = '{}'] = process.argv.slice(2);
  await main(dir, JSON.parse(images) as Record<string, string>);
}
