/**
 * The two super blocks, the quorum configuration and the quorum blocks.
 *
 * Without a valid metadata super block nothing else can be found, so that is the
 * only damage that ends a check. The data device's copy only identifies the
 * device; its totals and roots are stale by design and not looked at.
 *
 * Spec: format.md 5 and 6, mkfs.md 4, quorum.md 4.
 */
import { AF_IPV4, AF_NONE, BLOCK_MAGIC_QUORUM, BLOCK_MAGIC_SUPER, BLOCK_SM_SIZE,
  BLOCK_LG_SIZE, DATA_DEV_START_BLKNO, FLAG_IS_META_BDEV, FORMAT_VERSION_MAX,
  FORMAT_VERSION_MIN, META_DEV_START_BLKNO, QUORUM_BLKNO, QUORUM_BLOCKS, QuorumBlock, QuorumConfig,
  SUPER_BLKNO,
  SuperBlock, VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT, VOLOPT_EXPANSION_BITS, DATA_ALLOC_MAX_ZONES }
  from '../../core/format.js';
import type { QuorumBlockEvent } from '../../core/format.js';
import { alignedMemory } from '../../env/device.js';
import type { Device } from '../../env/device.js';
import { asScoutfsError } from '../../observe/errors.js';
import { crcOk } from './blocks.js';
import { decode, isExact } from './decode.js';
import type { Reporter } from './report.js';

const QCONF_OFFSET = 112;
const SUPER_OFFSET = SUPER_BLKNO * BLOCK_SM_SIZE;
/** 4 GiB: a zone is never smaller. */
const ZONE_BLOCKS_MIN = 1048576;

interface SmallBlock {
  bytes: Uint8Array;
  view: DataView;
}

function readSmall(dev: Device, blkno: number, report: Reporter): SmallBlock | null {
  const bytes = alignedMemory(BLOCK_SM_SIZE);
  try {
    dev.readSync(blkno * BLOCK_SM_SIZE, bytes);
  } catch (e) {
    report.finding('CHK_BLOCK_READ', asScoutfsError(e).message);
    return null;
  }
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
}

/** Reads one device's super block as a mount would. */
function readSuper(dev: Device, isMeta: boolean, report: Reporter): SuperBlock | null {
  const what = `the super block of ${dev.path}`;
  if (dev.sizeBytes < SUPER_OFFSET + BLOCK_SM_SIZE) {
    report.finding('CHK_SUPER_SIZE', `${dev.path} is too small for a super block`);
    return null;
  }
  const block = readSmall(dev, SUPER_BLKNO, report);
  if (block === null) return null;
  const { bytes, view } = block;
  if (view.getUint32(4, true) !== BLOCK_MAGIC_SUPER) {
    report.finding('CHK_SUPER_MAGIC', `${what} has no scoutfs magic`);
    return null;
  }
  if (!crcOk(bytes, view)) {
    report.finding('CHK_SUPER_CRC', `${what} fails its checksum`);
    return null;
  }
  const sb = decode(report, 'CHK_SUPER_FIELD', what, () => SuperBlock.read(view, 0));
  if (sb === null) return null;
  if (sb.hdr.blkno !== SUPER_BLKNO) {
    report.finding('CHK_SUPER_MAGIC', `${what} says it is block ${sb.hdr.blkno}`);
    return null;
  }
  if (sb.fmtVers < FORMAT_VERSION_MIN || sb.fmtVers > FORMAT_VERSION_MAX) {
    report.finding('CHK_SUPER_VERSION', `${what} has format version ${sb.fmtVers}`);
    return null;
  }
  if (sb.flags !== (isMeta ? FLAG_IS_META_BDEV : 0)) {
    report.finding('CHK_SUPER_FLAGS', `${what} has flags ${sb.flags}`);
  }
  // Unused bytes of quorum slots are garbage in upstream's volumes.
  const slots = QuorumConfig.read(view, QCONF_OFFSET);
  QuorumConfig.write(view, QCONF_OFFSET, slots);
  if (bytes.subarray(SuperBlock.size).some((b) => b !== 0)
    || !isExact(SuperBlock, sb, view, 0)) {
    report.finding('CHK_SUPER_PAD', `${what} has padding that is not zero`);
  }
  return sb;
}

/** Both super blocks. @returns the metadata device's, or null when nothing can be walked */
export function checkSupers(meta: Device, data: Device, report: Reporter): SuperBlock | null {
  const sb = readSuper(meta, true, report);
  const copy = readSuper(data, false, report);
  if (sb === null) return null;
  if (copy !== null) {
    if (!Buffer.from(sb.uuid).equals(copy.uuid)) {
      report.finding('CHK_SUPER_UUID', 'the two devices have super blocks of different volumes');
    }
    if (sb.fmtVers !== copy.fmtVers) {
      report.finding('CHK_SUPER_VERSION',
        `the devices have format versions ${sb.fmtVers} and ${copy.fmtVers}`);
    }
    checkSizes(copy, meta, data, 'the data super block', report);
  }
  checkFields(sb, report);
  return checkSizes(sb, meta, data, 'the super block', report) ? sb : null;
}

function checkSizes(sb: SuperBlock, meta: Device, data: Device, what: string,
  report: Reporter): boolean {
  let ok = true;
  const one = (dev: Device, total: number, unitBytes: number, least: number): void => {
    if (total * unitBytes <= dev.sizeBytes && total > least) return;
    ok = false;
    report.finding('CHK_SUPER_SIZE', `${what} records ${total} blocks of ${unitBytes} bytes, `
      + `but ${dev.path} has ${dev.sizeBytes} bytes`);
  };
  one(meta, sb.totalMetaBlocks, BLOCK_LG_SIZE, META_DEV_START_BLKNO);
  one(data, sb.totalDataBlocks, BLOCK_SM_SIZE, DATA_DEV_START_BLKNO);
  return ok;
}

function checkFields(sb: SuperBlock, report: Reporter): void {
  const bad = (what: string): void => {
    report.finding('CHK_SUPER_FIELD', `the super block has ${what}`);
  };
  if (sb.id !== 0) bad(`id ${sb.id}`);
  if (sb.seq === 0) bad('seq 0');
  if (sb.nextIno <= 1) bad(`next inode number ${sb.nextIno}`);
  checkVolopt(sb, report);
  const slots = sb.qconf.slots.map((s) => s.addr);
  const used = new Set<string>();
  slots.forEach((a, i) => {
    if (a.family === AF_NONE) return;
    const name = `${a.addr}:${a.port}`;
    if (a.family !== AF_IPV4 || a.port === 0 || used.has(name)) {
      report.finding('CHK_QUORUM_CONFIG',
        `quorum slot ${i} has family ${a.family}, port ${a.port}, or the address of another slot`);
    }
    used.add(name);
  });
  if (used.size === 0) report.finding('CHK_QUORUM_CONFIG', 'no quorum slot is configured');
}

function checkVolopt(sb: SuperBlock, report: Reporter): void {
  const { setBits, dataAllocZoneBlocks: zone, futureExpansion } = sb.volopt;
  const isSet = (setBits & BigInt(VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT)) !== 0n;
  if ((setBits & VOLOPT_EXPANSION_BITS) !== 0n || futureExpansion.some((w) => w !== 0n)) {
    report.finding('CHK_SUPER_VOLOPT', `unknown volume options are set: ${setBits.toString(16)}`);
  }
  const least = Math.max(ZONE_BLOCKS_MIN, Math.floor(sb.totalDataBlocks / DATA_ALLOC_MAX_ZONES));
  if (isSet ? zone < least || zone > sb.totalDataBlocks : zone !== 0) {
    report.finding('CHK_SUPER_VOLOPT',
      `volume option data_alloc_zone_blocks is ${isSet ? 'set' : 'not set'} and ${zone}`);
  }
}

/** @returns the rids that the BEGIN events of all slots record */
export function checkQuorumBlocks(meta: Device, sb: SuperBlock, report: Reporter): Set<bigint> {
  const rids = new Set<bigint>();
  for (let slot = 0; slot < QUORUM_BLOCKS; slot++) {
    const block = readSmall(meta, QUORUM_BLKNO + slot, report);
    if (block === null) continue;
    const { bytes, view } = block;
    const what = `the quorum block of slot ${slot}`;
    if (!crcOk(bytes, view) || view.getUint32(4, true) !== BLOCK_MAGIC_QUORUM
      || view.getBigUint64(8, true) !== sb.hdr.fsid
      || view.getBigUint64(24, true) !== BigInt(QUORUM_BLKNO + slot)
      || bytes.subarray(QuorumBlock.size).some((b) => b !== 0)) {
      report.finding('CHK_QUORUM_BLOCK', `${what} fails its checksum or header`);
      continue;
    }
    const qb = decode(report, 'CHK_QUORUM_EVENT', what, () => QuorumBlock.read(view, 0));
    if (qb === null) continue;
    checkEvents(qb, what, report);
    const begin = qb.events[0];
    if (begin !== undefined && begin.rid !== 0n) rids.add(begin.rid);
  }
  return rids;
}

/** Each event carries the count at which it was recorded, so those are distinct. */
function checkEvents(qb: QuorumBlock, what: string, report: Reporter): void {
  const isBlank = (e: QuorumBlockEvent): boolean =>
    e.rid === 0n && e.term === 0 && e.ts.sec === 0n && e.ts.nsec === 0;
  const nrs = qb.events.map((e) => e.writeNr).filter((n) => n !== 0);
  if (new Set(nrs).size !== nrs.length || Math.max(0, ...nrs) !== qb.writeNr) {
    report.finding('CHK_QUORUM_EVENT',
      `${what} counts ${qb.writeNr} writes, its events have numbers ${nrs.join(', ')}`);
  }
  qb.events.forEach((e, i) => {
    if (e.writeNr === 0 ? !isBlank(e) : e.rid === 0n || e.ts.nsec >= 1e9) {
      report.finding('CHK_QUORUM_EVENT', `event ${i} of ${what} is half recorded`);
    }
  });
}
