/**
 * The mounts that a server knows: those with a mounted client item.
 *
 * Kept in memory beside the items, so that it can be shown while a commit, or the device,
 * holds everything up. Source: server.md 7.
 */
import type { Endpoint } from '../env/net.js';
import { endpointString } from '../env/net.js';
import { hex16 } from '../observe/log.js';
import type { MountedClient } from './mounted_clients.js';

/** What is known of a mount from elsewhere. */
export interface MountStates {
  isFencing(rid: bigint): boolean;
  isRecovering(rid: bigint): boolean;
  isConnected(rid: bigint): boolean;
}

export class KnownMounts {
  private readonly mounts = new Map<bigint, MountedClient>();

  /** A mount with an item; where it greets from counts, not where it first did. */
  add(rid: bigint, addr: Endpoint, quorum: boolean): void {
    this.mounts.set(rid, { rid, addr, quorum });
  }

  /** The mount was reclaimed. */
  delete(rid: bigint): void {
    this.mounts.delete(rid);
  }

  /** One line per mount: `rid <hex> addr <ip:port> quorum <0|1> state <...>`. */
  describe(states: MountStates): string[] {
    return [...this.mounts.values()].sort((a, b) => (a.rid < b.rid ? -1 : 1)).map((m) => {
      const state = states.isFencing(m.rid) ? 'fencing'
        : states.isRecovering(m.rid) ? 'recovering'
          : states.isConnected(m.rid) ? 'connected' : 'lost';
      return `rid ${hex16(m.rid)} addr ${endpointString(m.addr)} quorum ${
        m.quorum ? 1 : 0} state ${state}`;
    });
  }
}
