/**
 * What the quorum blocks say of every slot: the control file `debug/members`.
 *
 *   slot <n> addr <ip:port> state <absent|begun|leader|unreadable> rid <16 hex> term <n>
 *
 * `begun` is a mount that takes part or died; `leader` one that was elected and is not
 * known to have stopped. The blocks of a device that does not answer cannot be shown:
 * reading the file fails then (ETIMEDOUT) instead of hanging, and the next reader waits for
 * the same read.
 * Source: quorum.md 4, 7.
 */
import type { Clock } from '../env/clock.js';
import type { Device } from '../env/device.js';
import { endpointString } from '../env/net.js';
import * as F from '../core/format.js';
import { errnoError } from '../observe/errors.js';
import { hex16 } from '../observe/log.js';
import { presentSlots, readQuorumBlock } from '../server/quorum_block.js';
import type { Slot } from '../server/quorum_block.js';

/** How long a reader waits for the device. */
const READ_LIMIT_MS = 1000;

/** The line of one slot; `block` is null when it cannot be read. */
export function memberLine(slot: Slot, block: F.QuorumBlock | null): string {
  const head = `slot ${slot.nr} addr ${endpointString(slot.at)}`;
  if (block === null) return `${head} state unreadable rid ${hex16(0n)} term 0`;
  const event = (kind: number): F.QuorumBlockEvent | undefined => block.events[kind];
  const [begin, end] = [event(F.QUORUM_EVENT_BEGIN), event(F.QUORUM_EVENT_END)];
  const [elect, stop] = [event(F.QUORUM_EVENT_ELECT), event(F.QUORUM_EVENT_STOP)];
  const term = Math.max(0, ...block.events.filter((e) => e.rid !== 0n).map((e) => e.term));
  const isLeader = (elect?.term ?? 0) > (stop?.term ?? 0);
  const hasBegun = (begin?.writeNr ?? 0) > (end?.writeNr ?? 0);
  const state = isLeader ? 'leader' : hasBegun ? 'begun' : 'absent';
  const rid = (isLeader ? elect?.rid : begin?.rid) ?? 0n;
  return `${head} state ${state} rid ${hex16(state === 'absent' ? 0n : rid)} term ${
    isLeader ? elect?.term ?? 0 : term}`;
}

/** Reads the slots' blocks for those who read the file. */
export class MembersView {
  private reading: Promise<string> | null = null;

  constructor(private readonly clock: Clock, private readonly device: Device,
    private readonly sb: F.SuperBlock) {}

  /** The text of the file. @throws ETIMEDOUT when the device does not answer */
  async text(): Promise<string> {
    this.reading ??= this.read().finally(() => { this.reading = null; });
    const late = this.clock.sleep(READ_LIMIT_MS).then(() => null);
    const text = await Promise.race([this.reading, late]);
    if (text === null) throw errnoError('ETIMEDOUT', `${this.device.path} does not answer`);
    return text;
  }

  private async read(): Promise<string> {
    const lines = await Promise.all(presentSlots(this.sb.qconf).map(async (s) =>
      memberLine(s, await readQuorumBlock(this.device, s.nr, this.sb.hdr.fsid).catch(() => null))));
    return lines.map((l) => `${l}\n`).join('');
  }
}
