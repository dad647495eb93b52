/**
 * Mounted client items: which mounts may hold locks and other state.
 *
 * An item is made by a mount's first greeting, before it is answered, and deleted as the
 * last step of reclaiming the mount. Recovery, fencing, farewells, log merging and the
 * unmount of clients all go by its presence. All access is serialised by the commit.
 * A greeting or a reclaim that comes twice changes nothing.
 * Source: server.md 7.
 */
import type { Core } from '../core/core.js';
import {
  AF_IPV4, MOUNTED_CLIENT_QUORUM, MOUNTED_CLIENT_ZONE, MountedClientBtreeVal,
} from '../core/format.js';
import { Key } from '../core/format.js';
import { incKey, keyBytes, makeKey } from '../core/keys.js';
import { decode, encode, viewOf } from '../net/messages.js';
import type { Endpoint } from '../env/net.js';
import type { Commits, Hold } from './commit.js';
import { sized } from './commit.js';

export interface MountedClient {
  rid: bigint;
  /** where it was when it mounted */
  addr: Endpoint;
  quorum: boolean;
}

function keyOf(rid: bigint): Uint8Array {
  return keyBytes(makeKey({ zone: MOUNTED_CLIENT_ZONE, first: rid }));
}

export class MountedClients {
  /** Recorded by this server, and not given a log tree yet. */
  private readonly treeless = new Set<bigint>();

  constructor(readonly core: Core, private readonly commits: Commits) {}

  private get root(): number { return this.commits.sup.mountedClients; }

  /** Makes a new mount durable; one that exists stays as it is. */
  record(rid: bigint, addr: Endpoint, quorum: boolean): Promise<void> {
    return this.commits.transact(async () => {
      if (await this.has(rid)) return;
      this.treeless.add(rid);
      await this.commits.space.insert(this.root, keyOf(rid), encode(MountedClientBtreeVal, {
        addr: { family: AF_IPV4, port: addr.port, addr: addr.addr },
        flags: quorum ? MOUNTED_CLIENT_QUORUM : 0,
      }));
    });
  }

  /** Within a hold or inspect. */
  async has(rid: bigint): Promise<boolean> {
    return await this.commits.space.lookup(this.root, keyOf(rid)) !== null;
  }

  /** Whether a log tree is certainly the first of its mount. Says so once. */
  takeFirstTree(rid: bigint): boolean {
    return this.treeless.delete(rid);
  }

  /** Deletes the item if it is there. Within a hold. */
  async delete(_tx: Hold, rid: bigint): Promise<void> {
    this.treeless.delete(rid);
    if (await this.has(rid)) await this.commits.space.delete(this.root, keyOf(rid));
  }

  /** All mounts in the order of their rids. Within a hold or inspect. */
  async all(): Promise<MountedClient[]> {
    const found: MountedClient[] = [];
    let key = keyOf(0n);
    for (;;) {
      const item = await this.commits.space.next(this.root, key);
      if (item === null) return found;
      const k = Key.read(viewOf(item.key), 0);
      if (k.zone !== MOUNTED_CLIENT_ZONE) return found;
      const v = decode(MountedClientBtreeVal,
        sized(item.val, MountedClientBtreeVal.size, 'mounted client'));
      found.push({
        rid: k.first,
        addr: { addr: v.addr.addr, port: v.addr.port },
        quorum: (v.flags & MOUNTED_CLIENT_QUORUM) !== 0,
      });
      key = keyBytes(incKey(k));
    }
  }

  /** All mounts, for callers without a hold. */
  list(): Promise<MountedClient[]> {
    return this.commits.inspect(() => this.all());
  }
}
