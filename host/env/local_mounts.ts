/**
 * What a host knows of its own mounts, for the agent that fences them.
 *
 * The answer comes from the run directory and from who has the metadata device open for
 * writing, so that it needs no cooperation of processes that may be dead.
 * Source: recovery.md 3, decision 4.
 */
import type { Clock } from './clock.js';
import { deviceWriters } from './device_writers.js';
import { isLocalAddr } from './host_addr.js';
import type { MountInfo } from './rundir.js';
import { isKernelMount, killMount, listMounts, removeMount } from './rundir.js';

/** Between two looks at an unclear state. */
const UNCLEAR_PAUSE_MS = 250;

/** What the local agent knows of this host. */
export interface LocalMounts {
  /** Is this an IPv4 address of this host? */
  isLocal(ipv4Addr: number): boolean;
  /**
   * What serves the mount `rid` on this host: a daemon, nothing (it died, or the host was
   * restarted since), or something that is not ours to end. `unclear` while a process
   * that nobody knows has the device open for writing: it may be that mount.
   */
  stateOf(rid: bigint): 'running' | 'gone' | 'foreign' | 'unclear';
  /** Waits a moment, for what is unclear to become clear. */
  pause(): Promise<void>;
  /** Kills the daemon of the mount and waits until it is gone; false when it is not. */
  kill(rid: bigint): Promise<boolean>;
  /** Removes what a dead daemon left behind. */
  forget(rid: bigint): void;
}

/** The mounts of this host, from the run directory and from who has the device open. */
export function hostMounts(clock: Clock, metaPath: string): LocalMounts {
  const find = (rid: bigint): MountInfo | undefined => listMounts().find((m) => m.rid === rid);
  return {
    isLocal: isLocalAddr,
    stateOf(rid) {
      const mount = find(rid);
      // Of our own mount, and of one that a kernel module serves, somebody else has to judge.
      if (mount?.pid === process.pid || isKernelMount(rid)) return 'foreign';
      if (mount !== undefined) return mount.alive ? 'running' : 'gone';
      // Daemons with another run directory, or in the middle of starting, are not listed.
      const known = new Set(listMounts().map((m) => m.pid));
      return deviceWriters(metaPath).every((pid) => known.has(pid)) ? 'gone' : 'unclear';
    },
    pause: () => clock.sleep(UNCLEAR_PAUSE_MS),
    async kill(rid) {
      const mount = find(rid);
      return mount !== undefined && await killMount(mount);
    },
    forget(rid) {
      const mount = find(rid);
      if (mount !== undefined && !mount.alive) void removeMount(mount.ident).catch(() => undefined);
    },
  };
}
