/**
 * The open map as the file system uses it, over the mount's map and the server's answers.
 */
import type { Core } from '../core/core.js';
import type { LockPtr } from '../core/items.js';
import type { OpenInoMap, OpenInoMapArgs } from '../core/format.js';
import {
  ORPHAN_TYPE, ORPHAN_ZONE, ROOT_INO,
} from '../core/constants.js';
import { BtreeRoot, Key } from '../core/format.js';
import { keyBytes } from '../core/keys.js';
import { Rec, TreeReader } from '../core/trees.js';
import type { OrphanSource } from '../fs/orphan_scan.js';
import type { OpenMap, RemoteOpen } from '../fs/context.js';
import type { Client } from '../mount/client.js';
import type { LockClient } from '../mount/lock.js';
import { OmapClient, omapTest } from '../mount/omap.js';

/** Orphans read at a time. */
const ORPHAN_BATCH = 256;

class RemoteBits implements RemoteOpen {
  constructor(private readonly bits: readonly bigint[]) {}

  has(ino: number): boolean {
    return omapTest(this.bits, ino);
  }
}

export class MountOpenMap implements OpenMap {
  private readonly map: OmapClient;
  /** the answer of the last hold of each group's lock */
  private readonly known = new Map<number, { writeSeq: number; bits: RemoteBits }>();

  constructor(private readonly client: Client, private readonly locks: LockClient) {
    this.map = new OmapClient((group) => client.openInoMap(group));
  }

  isOpen(ino: number): boolean { return this.map.test(ino); }

  set(ino: number): void {
    if (!this.map.test(ino)) this.map.set(ino);
  }

  clear(ino: number): void {
    if (this.map.test(ino)) this.map.clear(ino);
  }

  fetchGroup(group: number, ptr: LockPtr): RemoteOpen | Promise<RemoteOpen> {
    const writeSeq = this.locks.writeSeqOf(ptr);
    const known = this.known.get(group);
    if (known?.writeSeq === writeSeq) return known.bits;
    return this.ask(group, writeSeq);
  }

  /** Answers the server at once, whatever locks are held. */
  answer(args: OpenInoMapArgs): OpenInoMap {
    return this.map.answer(args);
  }

  /** What an orphan scan reads: the merged file system tree, roots sampled once per pass. */
  source(core: Core): Omit<OrphanSource, 'usedHere'> {
    let root: BtreeRoot | null = null;
    return {
      readOrphans: async (from) => {
        if (from <= ROOT_INO + 1 || root === null) root = (await this.client.getRoots()).fsRoot;
        return readOrphans(core, root, from);
      },
      askGroup: (group) => this.askGroup(group),
    };
  }

  async askGroup(group: number): Promise<RemoteBits> {
    return new RemoteBits((await this.client.openInoMap(group)).bits);
  }

  forget(group: number): void {
    this.known.delete(group);
  }

  private async ask(group: number, writeSeq: number): Promise<RemoteOpen> {
    const bits = await this.askGroup(group);
    if (this.known.size > KNOWN_MAX) this.known.clear();
    this.known.set(group, { writeSeq, bits });
    return bits;
  }
}

/** Groups whose answer is remembered. */
const KNOWN_MAX = 1024;

function isOrphanKey(k: Key): boolean {
  return k.zone === ORPHAN_ZONE && k.first === 0n && k.type === ORPHAN_TYPE &&
    k.second < BigInt(Number.MAX_SAFE_INTEGER) && k.third === 0n && k.fourth === 0;
}

/** Numbers of inodes with an orphan item, from `from` on; up to the first damaged key. */
async function readOrphans(core: Core, fsRoot: BtreeRoot, from: number): Promise<number[]> {
  const root = new Rec(core, BtreeRoot.size);
  BtreeRoot.write(core.view, root.ptr, fsRoot);
  const reader = new TreeReader(core);
  const inos: number[] = [];
  try {
    for (let ino = from; inos.length < ORPHAN_BATCH;) {
      const at = await reader.next(root.ptr, keyBytes({
        zone: ORPHAN_ZONE, first: 0n, type: ORPHAN_TYPE, second: BigInt(ino), third: 0n, fourth: 0,
      }));
      if (at === null) break;
      const key = Key.read(new DataView(at.key.buffer, at.key.byteOffset), 0);
      // a scan that went on from a damaged key could stay where it is
      if (!isOrphanKey(key)) break;
      inos.push(Number(key.second));
      ino = Number(key.second) + 1;
    }
    return inos;
  } finally {
    root.free();
  }
}

