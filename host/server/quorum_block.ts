/**
 * The quorum configuration, the slots' event blocks, and what they tell.
 *
 *   small block 17 + slot of the metadata device
 *  ╒══════════╤═══════════╤═══════╤══════╤═══════╤═══════╤══════╤═════╤═══════╕
 *  │ header 32│ write_nr 8│ BEGIN │ TERM │ ELECT │ FENCE │ STOP │ END │ zeros │
 *  ╘══════════╧═══════════╧═══════╧══════╧═══════╧═══════╧══════╧═════╧═══════╛
 *                           40 bytes each: write_nr, rid, term, time
 *
 * A slot's block is written only by the mount in that slot, and read by everybody:
 * clients find the server in it, new servers the leaders they have to fence.
 * Source: quorum.md 1, 4, 6, 7.
 */
import type { Device } from '../env/device.js';
import { alignedMemory } from '../env/device.js';
import type { Endpoint } from '../env/net.js';
import { endpointString } from '../env/net.js';
import type { Network } from '../env/peer_networks.js';
import { isInside, networksString } from '../env/peer_networks.js';
import type { WallTime } from '../env/clock.js';
import { crc32c } from '../core/crc32c.js';
import * as F from '../core/format.js';
import { viewOf } from '../net/messages.js';
import { ScoutfsError, errnoError } from '../observe/errors.js';

const CRC_INIT = 0xffffffff;
const CRC_BYTES = 4;
const PORT_LAST = 65534;
const MULTICAST_FIRST = 0xe0000000;
const MULTICAST_LAST = 0xefffffff;
const BROADCAST = 0xffffffff;

export interface Slot {
  nr: number;
  at: Endpoint;
}

/** The configured slots in order of their numbers. */
export function presentSlots(qconf: F.QuorumConfig): Slot[] {
  return qconf.slots.flatMap((s, nr) => s.addr.family === F.AF_IPV4
    ? [{ nr, at: { addr: s.addr.addr, port: s.addr.port } }] : []);
}

/** Members must be able to hear each other. @throws EINVAL for a slot outside of `networks` */
export function checkSlotsInside(slots: readonly Slot[], networks: readonly Network[]): void {
  const outside = slots.find((s) => !isInside(networks, s.at.addr));
  if (outside === undefined) return;
  throw badConfig(`quorum slot ${outside.nr} at ${endpointString(outside.at)
  } is outside of peer_networks=${networksString(networks)}`);
}

/**
 * Checks what a mount needs of the configuration. `slotNr` is the mount's own slot or
 * null. @returns the configured slots  @throws EINVAL in one line
 */
export function checkQuorumConfig(qconf: F.QuorumConfig, slotNr: number | null): Slot[] {
  const slots = presentSlots(qconf);
  if (slots.length === 0) throw badConfig('no quorum slot is configured');
  for (const s of slots) {
    const { addr, port } = s.at;
    const name = `quorum slot ${s.nr} has`;
    if (addr === 0 || addr === BROADCAST || (addr >= MULTICAST_FIRST && addr <= MULTICAST_LAST)) {
      throw badConfig(`${name} an invalid unicast address: ${endpointString(s.at)}`);
    }
    if (port === 0 || port > PORT_LAST) {
      throw badConfig(`${name} an invalid port: ${endpointString(s.at)}`);
    }
    const twin = slots.find((o) => o.nr < s.nr && o.at.addr === addr && o.at.port === port);
    if (twin !== undefined) {
      throw badConfig(`quorum slots ${twin.nr} and ${s.nr} have the same address: ${
        endpointString(s.at)}`);
    }
  }
  if (slotNr !== null && !slots.some((s) => s.nr === slotNr)) {
    throw badConfig(`quorum slot ${slotNr} is not configured (slots: ${
      slots.map((s) => s.nr).join(', ')})`);
  }
  return slots;
}

function badConfig(message: string): ScoutfsError {
  return new ScoutfsError('QUORUM_CONFIG', 'EINVAL', { message });
}

/** Bytes of a whole block with its checksum. */
export function encodeQuorumBlock(block: F.QuorumBlock): Uint8Array {
  const bytes = alignedMemory(F.BLOCK_SM_SIZE);
  const view = viewOf(bytes);
  F.QuorumBlock.write(view, 0, block);
  view.setUint32(0, crc32c(CRC_INIT, bytes.subarray(CRC_BYTES)), true);
  return bytes;
}

/** Checks and decodes a slot's block. @throws EIO */
export function decodeQuorumBlock(bytes: Uint8Array, slot: number, fsid: bigint): F.QuorumBlock {
  const view = viewOf(bytes);
  const hdr = F.BlockHeader.read(view, 0);
  let fault = '';
  if (crc32c(CRC_INIT, bytes.subarray(CRC_BYTES)) !== hdr.crc) fault = 'checksum';
  else if (hdr.magic !== F.BLOCK_MAGIC_QUORUM) fault = 'magic';
  else if (hdr.fsid !== fsid) fault = 'fsid';
  else if (hdr.blkno !== F.QUORUM_BLKNO + slot) fault = 'block number';
  if (fault !== '') {
    throw new ScoutfsError(BAD_BLOCK, 'EIO', {
      message: `quorum block of slot ${slot} has a wrong ${fault}`, data: { slot },
    });
  }
  return F.QuorumBlock.read(view, 0);
}

/** Reads a slot's block. @throws EIO */
export async function readQuorumBlock(device: Device, slot: number, fsid: bigint):
Promise<F.QuorumBlock> {
  const bytes = alignedMemory(F.BLOCK_SM_SIZE);
  await device.read((F.QUORUM_BLKNO + slot) * F.BLOCK_SM_SIZE, bytes);
  return decodeQuorumBlock(bytes, slot, fsid);
}

const SLOT_STOLEN = 'QUORUM_SLOT_STOLEN';
const BAD_BLOCK = 'QUORUM_BLOCK';

/** Whether a failure says that the slot's block is not what we wrote: there is no going on. */
export function isSlotLost(error: ScoutfsError): boolean {
  return error.code === SLOT_STOLEN || error.code === BAD_BLOCK;
}

function event(block: F.QuorumBlock, kind: number): F.QuorumBlockEvent {
  const e = block.events[kind];
  if (e === undefined) throw errnoError('EINVAL', `no quorum event ${kind}`);
  return e;
}

/** The block of our own slot; updates are made one after the other. */
export class OwnQuorumBlock {
  private last: Promise<void> = Promise.resolve();

  /** `again`: this mount has begun in the slot before, and nobody else may have since. */
  constructor(private readonly device: Device, private readonly fsid: bigint,
    private readonly rid: bigint, private readonly slot: number,
    private readonly again = false) {}

  /**
   * Records an event durably. Every event but the first BEGIN requires that the last BEGIN is
   * ours.
   * @throws EIO, also when another mount uses our slot
   */
  record(kind: number, term: number, time: WallTime): Promise<void> {
    const next = this.last.then(() => this.update(kind, term, time));
    this.last = next.catch(() => undefined);
    return next;
  }

  private async update(kind: number, term: number, time: WallTime): Promise<void> {
    const block = await readQuorumBlock(this.device, this.slot, this.fsid);
    const isFirst = kind === F.QUORUM_EVENT_BEGIN && !this.again;
    if (!isFirst && event(block, F.QUORUM_EVENT_BEGIN).rid !== this.rid) {
      throw new ScoutfsError(SLOT_STOLEN, 'EIO', {
        message: `quorum slot ${this.slot} is in use by another mount`,
      });
    }
    block.writeNr += 1;
    block.events[kind] = {
      writeNr: block.writeNr, rid: this.rid, term, ts: { sec: BigInt(time.sec), nsec: time.nsec },
    };
    await this.device.write((F.QUORUM_BLKNO + this.slot) * F.BLOCK_SM_SIZE,
      encodeQuorumBlock(block));
    await this.device.flush();
  }
}

/** What elections start from. */
export interface StartState {
  /** greatest term of any event of any mount */
  term: number;
  liveServer: boolean;
}

/**
 * Reads all slots; blocks of others that cannot be read are skipped. Our own must be read:
 * it is read again for every event, and with a term below those that it holds nobody would
 * find our server. A leader that our own slot's
 * block shows is a mount that died: a slot is used by one mount at a time, so nobody has
 * to wait for its heartbeats. @throws EIO when our own block cannot be read
 */
export async function readStartState(device: Device, slots: readonly Slot[], fsid: bigint,
  ownSlot: number): Promise<StartState> {
  let term = 0;
  let liveServer = false;
  for (const s of slots) {
    const block = await readQuorumBlock(device, s.nr, fsid).catch((e: unknown) => {
      if (s.nr === ownSlot) throw e;
      return null;
    });
    if (block === null) continue;
    for (const e of block.events) if (e.rid !== 0n && e.term > term) term = e.term;
    if (s.nr !== ownSlot && isElected(block)) liveServer = true;
  }
  return { term, liveServer };
}

function isElected(block: F.QuorumBlock): boolean {
  return event(block, F.QUORUM_EVENT_ELECT).term > event(block, F.QUORUM_EVENT_STOP).term;
}

/** The slot with the latest server that is not known to have stopped, or null. */
export function serverSlot(blocks: readonly { slot: number; block: F.QuorumBlock }[]):
number | null {
  let best: { slot: number; term: number } | null = null;
  for (const { slot, block } of blocks) {
    const { term } = event(block, F.QUORUM_EVENT_ELECT);
    if (isElected(block) && (best === null || term > best.term)) best = { slot, term };
  }
  return best?.slot ?? null;
}

/**
 * Where clients find the server, as far as the device tells; it may be gone already.
 * @returns null when there is none  @throws EIO when any slot's block cannot be read
 */
export async function findServer(device: Device, slots: readonly Slot[], fsid: bigint):
Promise<Endpoint | null> {
  const blocks = [];
  for (const s of slots) {
    blocks.push({ slot: s.nr, block: await readQuorumBlock(device, s.nr, fsid) });
  }
  const nr = serverSlot(blocks);
  return slots.find((s) => s.nr === nr)?.at ?? null;
}

/**
 * The last election of another slot than `ownSlot`, whether or not its server still runs;
 * slots whose blocks cannot be read are skipped. @returns null when there was none
 */
export async function latestElection(device: Device, slots: readonly Slot[], fsid: bigint,
  ownSlot: number): Promise<{ slot: number; term: number } | null> {
  let latest: { slot: number; term: number } | null = null;
  for (const { nr } of slots) {
    if (nr === ownSlot) continue;
    const block = await readQuorumBlock(device, nr, fsid).catch(() => null);
    const term = block === null ? 0 : event(block, F.QUORUM_EVENT_ELECT).term;
    if (term > (latest?.term ?? 0)) latest = { slot: nr, term };
  }
  return latest;
}

/** An earlier leader that may still write. */
export interface OldLeader {
  slot: number;
  rid: bigint;
}

/** The leaders that a server of `term` by `rid` has to fence before it reads anything. */
export function leadersToFence(blocks: readonly { slot: number; block: F.QuorumBlock }[],
  term: number, rid: bigint): OldLeader[] {
  const fenced = Math.max(0, ...blocks.map((b) => event(b.block, F.QUORUM_EVENT_FENCE).term));
  const out: OldLeader[] = [];
  for (const { slot, block } of blocks) {
    const elect = event(block, F.QUORUM_EVENT_ELECT);
    const fence = event(block, F.QUORUM_EVENT_FENCE);
    const stop = event(block, F.QUORUM_EVENT_STOP);
    const records: F.QuorumBlockEvent[] = [];
    if (elect.term > stop.term) records.push(elect);
    if (fence.term > stop.term && fence.term < elect.term) records.push(fence);
    for (const e of records) {
      if (e.term !== 0 && e.term >= fenced && e.term <= term && e.rid !== rid) {
        out.push({ slot, rid: e.rid });
      }
    }
  }
  return out;
}

/** A quorum datagram. */
export function encodeQuorumMessage(fsid: bigint, type: number, term: number, from: number):
Uint8Array {
  const bytes = new Uint8Array(F.QuorumMessage.size);
  const view = viewOf(bytes);
  F.QuorumMessage.write(view, 0, { fsid, version: 0, term, type, from, crc: 0 });
  view.setUint32(28, crc32c(CRC_INIT, bytes.subarray(0, 28)), true);
  return bytes;
}

/** Terms of others stay below, so that the next one can always be counted up. */
const TERM_MAX = 2n ** 52n;

/** A valid datagram of a configured slot of this volume, or null. */
export function decodeQuorumMessage(bytes: Uint8Array, fsid: bigint, slots: readonly Slot[]):
{ type: number; term: number; from: number } | null {
  if (bytes.length !== F.QuorumMessage.size) return null;
  const view = viewOf(bytes);
  if (crc32c(CRC_INIT, bytes.subarray(0, 28)) !== view.getUint32(28, true)) return null;
  if (view.getBigUint64(0, true) !== fsid) return null;
  const term = view.getBigUint64(16, true);
  const type = view.getUint8(24);
  const from = view.getUint8(25);
  if (term > TERM_MAX || type >= F.QUORUM_MSG_INVALID) return null;
  return slots.some((s) => s.nr === from) ? { type, term: Number(term), from } : null;
}
