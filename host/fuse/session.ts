/**
 * One served mount: device, channel, dispatcher and invalidation put together.
 *
 *   FuseDevice ── Channel ── Dispatcher ── VfsOps (the file system)
 *                    │           │
 *                    └ Invalidator ┘  KernelDrain (for the lock client)
 *
 * The lock client reaches the drain through `session.drain`; it is given the session after
 * both are made, before `start`.
 */
import type { Clock } from '../env/clock.js';
import type { FuseDevice, FuseEnd } from '../env/fuse-device.js';
import type { KernelCaching, KernelDrain, OpSource, VfsOps } from '../fs/vfs.js';
import { asScoutfsError } from '../observe/errors.js';
import { Channel } from './channel.js';
import type { ChannelCounters } from './channel.js';
import { Dispatcher } from './dispatch.js';
import { Invalidator } from './invalidate.js';
import type { DrainCounters } from './invalidate.js';
import { NodeTable } from './nodes.js';

export interface SessionOptions {
  /** POSIX ACLs are enforced by the kernel; default true. */
  acl?: boolean;
  /** Names are cached by the kernel where locks allow it; default true. (fuse.md 5.6) */
  nameCaching?: boolean;
  /** Inodes that the kernel may keep; beyond it unused ones are pruned. */
  inodesMax?: number;
}

export interface SessionHooks {
  /** The connection ended: unmounted, or aborted by force. Called once. */
  end(why: FuseEnd): void;
  /** The connection cannot go on and must be aborted (`abortFuse`). */
  fatal(message: string): void;
  log(message: string, err?: unknown): void;
}

export interface SessionParts {
  device: FuseDevice;
  clock: Clock;
  vfs: VfsOps;
  ops: OpSource;
  caching: KernelCaching;
  /** Whether the thread of a request was killed. */
  isDying(pid: number): boolean;
}

export class FuseSession {
  readonly drain: KernelDrain;
  readonly counters: ChannelCounters;
  readonly drainCounters: DrainCounters;
  private readonly channel: Channel;
  private readonly nodes: NodeTable;

  constructor(parts: SessionParts, hooks: SessionHooks, opts: SessionOptions = {}) {
    const { device, vfs } = parts;
    this.nodes = new NodeTable((ino) => {
      try {
        vfs.evict(ino);
      } catch (e) {
        hooks.log(`evict of inode ${ino} failed: ${asScoutfsError(e).message}`, e);
      }
    }, opts.inodesMax, () => { drain.pruneOldest(); });
    this.channel = new Channel(device, parts.ops, {
      handle: (r) => dispatcher.handle(r),
      admits: (r) => drain.admits(r),
      isDying: (pid) => parts.isDying(pid),
      after: (delayMs, fn) => { parts.clock.after(delayMs, fn); },
      finished: (r) => { drain.finished(r); },
      forget: (ino, count) => { this.nodes.forget(ino, count); },
      ready: () => { drain.probe(); },
      end: (why) => { hooks.end(why); },
      fatal: (message) => { hooks.fatal(message); },
      log: (message, err) => { hooks.log(message, err); },
    }, { acl: opts.acl ?? true });
    const drain = new Invalidator(device, this.nodes, parts.clock, {
      parked: () => this.channel.parked(),
      rerun: (r) => { this.channel.rerun(r); },
      log: (message) => { hooks.log(message); },
      fatal: (message) => { hooks.fatal(message); },
    });
    const dispatcher = new Dispatcher(this.channel, vfs, this.nodes, parts.caching, drain,
      { nameCaching: opts.nameCaching ?? true });
    this.drain = drain;
    this.counters = this.channel.counters;
    this.drainCounters = drain.counters;
  }

  /** Begins to serve. The mount answers once the kernel's INIT has been read. */
  start(): void {
    this.channel.start();
  }

  /** Protocol minor in use; 0 until the kernel has asked. */
  get protocolMinor(): number {
    return this.channel.minor;
  }

  /** Requests that wait for a lock, a block, a commit or the server. */
  get parkedCount(): number {
    return [...this.channel.parked()].length;
  }

  /** Inodes the kernel knows now. */
  get nodeCount(): number {
    return this.nodes.count;
  }

  /** How many inodes the kernel has of us. */
  get inodes(): number {
    return this.nodes.size;
  }

  /** Numbers of all inodes the kernel knows, for the open map and at unmount. */
  inos(): IterableIterator<number> {
    return this.nodes.inos();
  }

  /** Whether the kernel refers to an inode or has a handle on it. */
  isOpen(ino: number): boolean {
    return this.nodes.get(ino) !== undefined;
  }
}
