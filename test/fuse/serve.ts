/**
 * The daemon that the mounted tests talk to: the in-memory file system, with handles for holding
 * operations back and for driving drains. Runs as a forked child, so that the tests can make
 * blocking calls on the mount.
 *
 * Commands arrive as { id, cmd, ...args } and are answered { id, result } or { id, error }.
 */
import { createHook } from 'node:async_hooks';
import { isDying } from '../../host/env/caps.js';
import { realClock } from '../../host/env/clock.js';
import { openFuseDevice } from '../../host/env/fuse-device.js';
import { abortFuse, mountFuse } from '../../host/env/fuse-mount.js';
import type { VfsOps } from '../../host/fs/vfs.js';
import { FuseSession } from '../../host/fuse/session.js';
import type { Op } from '../../host/mount/op.js';
import { Wait } from '../../host/mount/op.js';
import { MemFs } from '../../bench/macro/memfs.js';

interface Command {
  id: number;
  cmd: string;
  dir?: string;
  plain?: boolean;
  inodesMax?: number;
  op?: string;
  on?: boolean;
  ino?: number;
  from?: 0 | 1 | 2 | 3;
  to?: 0 | 1 | 2 | 3;
  offset?: number;
  lenBytes?: number;
  bytes?: number[];
}

/** Two kinds of operation, to be told apart by the holds. */
const usualOp = Object.freeze({ kind: 'usual', lockInode: () => 0 }) as unknown as Op;
const drainOp = Object.freeze({ kind: 'during drain' }) as unknown as Op;

interface Hold {
  ready: Promise<void>;
  go: () => void;
  /** As a lock does: operations during a drain pass. */
  likeLock: boolean;
}

/** Operations held back by name: each call waits until the name is released. */
class Holds {
  private readonly held = new Map<string, Hold>();
  readonly broken = new Set<string>();
  /** How often a call was made to wait. */
  heldBack = 0;

  hold(op: string, likeLock: boolean): void {
    let go = (): void => { /* replaced at once */ };
    const ready = new Promise<void>((done) => { go = done; });
    this.held.set(op, { ready, go, likeLock });
  }

  release(op: string): void {
    this.held.get(op)?.go();
    this.held.delete(op);
  }

  check(op: string, args: unknown[]): void {
    if (this.broken.has(op)) throw new TypeError(`${op} is broken on purpose`);
    const held = this.held.get(op);
    if (held === undefined || (held.likeLock && args[0] === drainOp)) return;
    this.heldBack++;
    throw new Wait(held.ready);
  }
}

function guarded(fs: VfsOps, holds: Holds): VfsOps {
  return new Proxy(fs, {
    get(target, prop, receiver): unknown {
      const value: unknown = Reflect.get(target, prop, receiver);
      if (typeof value !== 'function' || typeof prop !== 'string') return value;
      return (...args: unknown[]): unknown => {
        holds.check(prop, args);
        return Reflect.apply(value, target, args);
      };
    },
  });
}

let promises = 0;
const hook = createHook({ init: (_id, type) => { if (type === 'PROMISE') promises++; } });
const holds = new Holds();
const state = { caching: true };
let served: { session: FuseSession; mem: MemFs; notify: (bytes: Uint8Array) => Promise<number>;
  connection: number } | null = null;
const log: string[] = [];

const ops = {
  begin: (duringDrain: boolean): Op => (duringDrain ? drainOp : usualOp),
  end: (): void => { /* nothing was taken */ },
};

async function mount(c: Command): Promise<unknown> {
  const { fd, connection } = await mountFuse({
    source: 'none', dir: c.dir ?? '', subtype: 'scoutfstest' });
  const device = openFuseDevice(fd, c.plain === true);
  // without the proxy unless asked for: the fast path is measured as it is
  const mem = new MemFs();
  const session = new FuseSession({
    device, clock: realClock, ops, vfs: c.on === true ? guarded(mem, holds) : mem,
    caching: { mayCache: () => state.caching }, isDying,
  }, {
    end: (why) => { process.send?.({ ended: why }); },
    fatal: (message) => { log.push(`fatal: ${message}`); void abortFuse(connection); },
    log: (message) => { log.push(message); },
  }, c.inodesMax === undefined ? {} : { inodesMax: c.inodesMax });
  session.start();
  served = { session, mem, notify: (bytes) => device.notify(bytes), connection };
  return { connection };
}

async function run(c: Command): Promise<unknown> {
  if (c.cmd === 'mount') return mount(c);
  if (served === null) throw new Error('not mounted');
  const { session } = served;
  switch (c.cmd) {
    case 'hold': holds.hold(c.op ?? '', c.on === true); return null;
    case 'append': served.mem.append(c.ino ?? 0, Uint8Array.from(c.bytes ?? [])); return null;
    case 'release': holds.release(c.op ?? ''); return null;
    case 'break': holds.broken.add(c.op ?? ''); return null;
    case 'mend': holds.broken.delete(c.op ?? ''); return null;
    case 'caching': state.caching = c.on === true; return null;
    case 'drain': await session.drain.drain(c.ino ?? 0, c.from ?? 2, c.to ?? 0); return null;
    case 'dropPages':
      await session.drain.dropPages(c.ino ?? 0, c.offset ?? 0, c.lenBytes ?? 0);
      return null;
    case 'prune': session.drain.prune(c.ino ?? 0); return null;
    case 'notify': return served.notify(Uint8Array.from(c.bytes ?? []));
    case 'abort': await abortFuse(served.connection); return null;
    case 'countPromises':
      promises = 0;
      if (c.on === true) hook.enable();
      return null;
    case 'promises': hook.disable(); return promises;
    case 'state': return {
      requests: session.counters.byName(), parked: session.counters.parked,
      heldBack: holds.heldBack,
      moved: session.counters.moved, interrupted: session.counters.interrupted,
      unexpected: session.counters.unexpected,
      drain: Object.fromEntries(Object.entries(session.drainCounters)),
      nodes: session.nodeCount, inos: [...session.inos()], minor: session.protocolMinor, log,
    };
    default: throw new Error(`unknown command ${c.cmd}`);
  }
}

process.on('message', (c: Command) => {
  run(c).then(
    (result) => { process.send?.({ id: c.id, result }); },
    (e: unknown) => {
      const err = e as { message?: string; code?: string };
      process.send?.({ id: c.id, error: err.message ?? String(e), code: err.code });
    });
});
process.on('disconnect', () => { process.exit(0); });
process.send?.({ started: true });
