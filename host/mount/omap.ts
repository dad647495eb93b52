/**
 * This mount's open inode map: which inodes it has in use, in groups of 1024, and what
 * it has learned of the others.
 *
 * A bit is set when an inode enters the cache and cleared when it leaves, both under
 * the inode's cluster lock, so a mount that holds the lock for writing and asks the
 * others sees every user. The answer of the others is valid for the hold of the lock
 * it was asked under, which the lock's write seq names.
 * Source: recovery.md 5, 6; vectors `omap_client_traces`.
 */
import type { OpenInoMap, OpenInoMapArgs } from '../core/format.js';
import { OPEN_INO_MAP_BITS, OPEN_INO_MAP_LE64S } from '../core/constants.js';
import { assert } from '../observe/errors.js';

const WORD_BITS = 64;
/** Answers kept; one per lock in use for deletions. */
const REMOTE_MAPS_MAX = 1024;

interface Group {
  bits: bigint[];
  count: number;
}

interface RemoteMap {
  writeSeq: number;
  bits: Promise<readonly bigint[]>;
}

function zeroBits(): bigint[] {
  return Array.from({ length: OPEN_INO_MAP_LE64S }, () => 0n);
}

/** Group number of an inode. */
export function omapGroup(ino: number): number {
  return Math.floor(ino / OPEN_INO_MAP_BITS);
}

/** Is the inode's bit set in a group's bits? */
export function omapTest(bits: readonly bigint[], ino: number): boolean {
  const bit = ino % OPEN_INO_MAP_BITS;
  return (((bits[Math.floor(bit / WORD_BITS)] ?? 0n) >> BigInt(bit % WORD_BITS)) & 1n) === 1n;
}

export class OmapClient {
  private readonly groups = new Map<number, Group>();
  private readonly remote = new Map<number, RemoteMap>();

  /** `ask` sends an OPEN_INO_MAP request for a group and resolves with the others' union. */
  constructor(private readonly ask: (groupNr: number) => Promise<OpenInoMap>) {}

  /** The inode is in use here from now on. It must not be already. */
  set(ino: number): void {
    const g = this.groups.get(omapGroup(ino)) ?? { bits: zeroBits(), count: 0 };
    assert(!omapTest(g.bits, ino), `inode ${ino} enters the cache once`);
    this.flip(g, ino);
    g.count += 1;
    this.groups.set(omapGroup(ino), g);
  }

  /** The inode is no longer in use here. */
  clear(ino: number): void {
    const g = this.groups.get(omapGroup(ino));
    assert(g !== undefined && omapTest(g.bits, ino), `inode ${ino} is in the cache`);
    this.flip(g, ino);
    g.count -= 1;
    if (g.count === 0) this.groups.delete(omapGroup(ino));
  }

  /** In use here? */
  test(ino: number): boolean {
    const g = this.groups.get(omapGroup(ino));
    return g !== undefined && omapTest(g.bits, ino);
  }

  /** The answer to the server's request: at once, whatever locks are held. */
  answer(args: OpenInoMapArgs): OpenInoMap {
    return { args, bits: [...(this.groups.get(args.groupNr)?.bits ?? zeroBits())] };
  }

  /**
   * Is the inode in use on another mount? To be asked while its inode lock is held for
   * writing with `writeSeq`; one request per group and hold.
   */
  async usedElsewhere(ino: number, writeSeq: number): Promise<boolean> {
    const group = omapGroup(ino);
    let map = this.remote.get(group);
    if (map?.writeSeq !== writeSeq) {
      const bits = this.ask(group).then((m) => m.bits);
      map = { writeSeq, bits };
      this.remember(group, map);
      bits.catch(() => { if (this.remote.get(group)?.bits === bits) this.remote.delete(group); });
    }
    return omapTest(await map.bits, ino);
  }

  /** The others' bits of a group without a lock, as a hint for scans. */
  async hint(groupNr: number): Promise<readonly bigint[]> {
    return (await this.ask(groupNr)).bits;
  }

  private remember(group: number, map: RemoteMap): void {
    this.remote.delete(group);
    this.remote.set(group, map);
    const [oldest] = this.remote.keys();
    if (this.remote.size > REMOTE_MAPS_MAX && oldest !== undefined) this.remote.delete(oldest);
  }

  private flip(g: Group, ino: number): void {
    const bit = ino % OPEN_INO_MAP_BITS;
    const word = Math.floor(bit / WORD_BITS);
    g.bits[word] = (g.bits[word] ?? 0n) ^ (1n << BigInt(bit % WORD_BITS));
  }
}
