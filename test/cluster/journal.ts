/**
 * What is committed, read from the devices.
 *
 * Whenever a server begins to write a super block, its log trees are read from the
 * device: they say which transaction of each mount was committed last. Which super block
 * is on the device now, or was kept by a power cut, then says what is durable.
 * Source: server.md 4.3, forest.md 1.
 */
import { SUPER_BLKNO, SuperBlock } from '../../host/core/format.js';
import { LOG_TREES_FINALIZED, LOG_TREES_ZONE, LogTrees, NetRoots } from
  '../../host/core/format.js';
import { makeWalker } from '../../host/disk/tree.js';
import type { SimDevice } from '../../host/env/sim_device.js';
import { encode, viewOf } from '../../host/net/messages.js';

const SMALL_BYTES = 4096;
export const SUPER_OFFSET = SUPER_BLKNO * SMALL_BYTES;

/** Seq of the last committed transaction, by mount. */
export type Committed = ReadonlyMap<bigint, number>;

interface Known {
  committed: Committed;
  /** root of the items of each log tree */
  roots: ReadonlyMap<string, string>;
}

export class Journal {
  /** by checksum and seq of the super block */
  private readonly supers = new Map<string, Known>();
  /** of all super blocks that have been on the device, as they are on the wire */
  private readonly stableRoots = new Set<string>();

  constructor(private readonly meta: SimDevice) {
    this.supers.set(nameOf(this.current()), { committed: new Map(), roots: new Map() });
  }

  /** Whether these are, or were, the roots of a super block on the device. */
  wereStable(roots: Uint8Array): boolean {
    this.noteRoots();
    return this.stableRoots.has(hex(roots));
  }

  /** A server begins to write this super block. @returns what will be committed */
  superBegun(bytes: Uint8Array): Committed {
    const before = this.known();
    this.noteRoots();
    const committed = new Map(before.committed);
    const roots = new Map<string, string>();
    for (const lt of this.logTrees(bytes)) {
      const { rid, nr, itemRoot: { ref } } = lt;
      const name = `${rid} ${nr}`;
      const root = `${ref.blkno} ${ref.seq}`;
      roots.set(name, root);
      const reclaimed = (lt.flags & LOG_TREES_FINALIZED) !== 0
        && root === (before.roots.get(name) ?? '0 0');
      if (!reclaimed) {
        committed.set(rid, Math.max(committed.get(rid) ?? 0, lt.commitTransSeq));
      }
    }
    this.supers.set(nameOf(bytes), { committed, roots });
    return committed;
  }

  /** The last committed transaction of a mount. */
  committed(rid: bigint): number {
    return this.committedAll().get(rid) ?? 0;
  }

  committedAll(): Committed {
    return this.known().committed;
  }

  private noteRoots(): void {
    const { fsRoot, logsRoot, srchRoot } = SuperBlock.read(viewOf(this.current()), 0);
    this.stableRoots.add(hex(encode(NetRoots, { fsRoot, logsRoot, srchRoot })));
  }

  /** @throws when the device holds a super block that nobody has written */
  private known(): Known {
    const found = this.supers.get(nameOf(this.current()));
    if (found === undefined) throw new Error('a super block that nobody has written');
    return found;
  }

  private current(): Uint8Array {
    const bytes = new Uint8Array(SMALL_BYTES);
    this.meta.readSync(SUPER_OFFSET, bytes);
    return bytes;
  }

  private logTrees(superBytes: Uint8Array): LogTrees[] {
    const sb = SuperBlock.read(new DataView(superBytes.buffer, superBytes.byteOffset), 0);
    const found: LogTrees[] = [];
    if (sb.logsRoot.height === 0) return found;
    makeWalker(this.meta).btree(sb.logsRoot.ref, sb.logsRoot.height, {
      block: (block, items) => {
        if (block.view.getUint8(40) !== 0) return;
        for (const item of items) {
          if (item.key.zone === LOG_TREES_ZONE && item.valLen === LogTrees.size) {
            found.push(LogTrees.read(item.val, 0));
          }
        }
      },
      problem: (text) => { throw new Error(`log trees of a super block: ${text}`); },
    });
    return found;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

function nameOf(superBytes: Uint8Array): string {
  return Buffer.from(superBytes.buffer, superBytes.byteOffset, 32).toString('latin1');
}
