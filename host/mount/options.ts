/**
 * Mount options: one table from which parsing, range checks, help, control files and
 * documentation come.
 *
 * An option list is comma separated. Empty elements are ignored; an unknown element,
 * a missing or malformed value, a value out of range, or a second use of an option
 * that may be given once fails with EINVAL and names the element. Integers are C
 * style: decimal, 0x hexadecimal, leading zero octal. Later uses win.
 * Source: super.md 2, cli.md 2.2.
 */
import {
  QUORUM_DEF_HB_TIMEO_MS, QUORUM_MAX_HB_TIMEO_MS, QUORUM_MIN_HB_TIMEO_MS,
} from '../core/constants.js';
import type { Network } from '../env/peer_networks.js';
import { networksString, parseNetworks } from '../env/peer_networks.js';
import { ScoutfsError, asScoutfsError, errnoError } from '../observe/errors.js';

export interface MountOptions {
  metadevPath: string | null;
  acl: boolean;
  dataPreallocBlocks: number;
  dataPreallocContigOnly: number;
  inoAllocPerLock: number;
  lockIdleCount: number;
  logMergeWaitTimeoutMs: number;
  orphanScanDelayMs: number;
  quorumHeartbeatTimeoutMs: number;
  /** null: not a quorum member */
  quorumSlotNr: number | null;
  tcpKeepaliveTimeoutMs: number;
  /** Memory of the core, MiB. */
  coreMemoryMb: number;
  /** Whether the kernel may keep names and attributes while the lock is held. */
  kernelCache: number;
  /** Inodes that the kernel may keep in its caches. */
  kernelInodesMax: number;
  readOnly: boolean;
  /** Where peers may come from; empty: anywhere. */
  peerNetworks: readonly Network[];
  /** Generic options that the kernel enforces: passed on as they are. */
  kernelOptions: string[];
}

/** The options whose value is a number, or null for none. */
type NumberKey = {
  [K in keyof MountOptions]: MountOptions[K] extends number | null ? K : never;
}[keyof MountOptions];

interface NumberSpec {
  readonly name: string;
  readonly key: NumberKey;
  readonly min: number;
  readonly max: number;
  readonly def: number | null;
  /** may be changed through the control files while mounted */
  readonly live: boolean;
  readonly once?: boolean;
  /** ours, not upstream's */
  readonly own?: boolean;
  readonly help: string;
}

const NUMBER_TABLE = [
  { name: 'data_prealloc_blocks', key: 'dataPreallocBlocks', min: 1, max: 2 ** 52 - 1, def: 2048,
    live: true, help: 'blocks of 4 KiB preallocated behind written ones at most' },
  { name: 'data_prealloc_contig_only', key: 'dataPreallocContigOnly', min: 0, max: 1, def: 1,
    live: true, help: 'preallocate only for files written from their start without gaps' },
  { name: 'ino_alloc_per_lock', key: 'inoAllocPerLock', min: 1, max: 1024, def: 1024, live: true,
    help: 'inode numbers used of each lock group of 1024' },
  { name: 'lock_idle_count', key: 'lockIdleCount', min: 32, max: 100000, def: 10000, live: true,
    help: 'cluster locks kept while idle' },
  { name: 'log_merge_wait_timeout_ms', key: 'logMergeWaitTimeoutMs', min: 100, max: 60000,
    def: 500, live: true, help: 'how long the server waits for all mounts before a log merge' },
  { name: 'orphan_scan_delay_ms', key: 'orphanScanDelayMs', min: 100, max: 60000, def: 10000,
    live: true, once: true, help: 'time between scans for deleted inodes that nobody uses' },
  { name: 'quorum_heartbeat_timeout_ms', key: 'quorumHeartbeatTimeoutMs',
    min: QUORUM_MIN_HB_TIMEO_MS, max: QUORUM_MAX_HB_TIMEO_MS, def: QUORUM_DEF_HB_TIMEO_MS,
    live: true, help: 'silence after which a new leader is elected' },
  { name: 'quorum_slot_nr', key: 'quorumSlotNr', min: 0, max: 14, def: null, live: false,
    once: true, help: 'the quorum slot of this mount; without it the mount is a plain client' },
  { name: 'tcp_keepalive_timeout_ms', key: 'tcpKeepaliveTimeoutMs', min: 3001,
    max: 2 ** 31 - 1, def: 24000, live: false,
    help: 'silence after which a connection is given up' },
  { name: 'core_memory_mb', key: 'coreMemoryMb', min: 64, max: 4000, def: 256, live: false,
    own: true, help: 'memory for metadata blocks and items, MiB' },
  { name: 'kernel_cache', key: 'kernelCache', min: 0, max: 1, def: 1, live: false, own: true,
    help: 'let the kernel keep names and attributes while their lock is held' },
  { name: 'kernel_inodes_max', key: 'kernelInodesMax', min: 1000, max: 100_000_000,
    def: 250_000, live: false, own: true,
    help: 'inodes that the kernel may keep in its caches' },
] as const satisfies readonly NumberSpec[];

/** An option of MountOptions that the table lacks would have no value at all. */
type Forgotten = Exclude<NumberKey, (typeof NUMBER_TABLE)[number]['key']>;

/** Every option with a number. */
export const NUMBER_OPTIONS: [Forgotten] extends [never] ? readonly NumberSpec[] : never =
  NUMBER_TABLE;

interface TextSpec {
  readonly name: string;
  /** what a missing value lacks */
  readonly value: string;
  /** ours, not upstream's */
  readonly own?: boolean;
  readonly help: string;
  /** @throws EINVAL */
  apply(o: MountOptions, text: string): void;
}

/** Every option with a text. */
export const TEXT_OPTIONS: readonly TextSpec[] = [
  { name: 'metadev_path', value: 'path', help: 'the metadata device',
    apply(o, text) { o.metadevPath = text; } },
  { name: 'peer_networks', value: 'network', own: true,
    help: 'IPv4 networks of the cluster, as 10.0.0.0/8+192.168.1.0/24; others are refused',
    apply(o, text) { o.peerNetworks = parseNetworks(text); } },
];

interface FlagSpec {
  readonly name: string;
  readonly help: string;
  apply(o: MountOptions): void;
}

/** Every option without a value. */
export const FLAG_OPTIONS: readonly FlagSpec[] = [
  { name: 'acl', help: 'use and enforce POSIX ACLs (default)', apply(o) { o.acl = true; } },
  { name: 'noacl', help: 'do not use POSIX ACLs', apply(o) { o.acl = false; } },
  { name: 'ro', help: 'refuse changes through this mount', apply(o) { o.readOnly = true; } },
  { name: 'rw', help: 'allow changes (default)', apply(o) { o.readOnly = false; } },
];

/** Options of mount(8) and fstab that say nothing to a file system. */
const IGNORED = new Set([
  'defaults', 'auto', 'noauto', 'user', 'nouser', 'users', 'group', 'owner', 'nofail', '_netdev',
]);

/** Options of every mount. Access times are never written on reads, whatever they say. */
const KERNEL_OPTIONS = new Set([
  'atime', 'noatime', 'diratime', 'nodiratime', 'relatime', 'norelatime', 'strictatime',
  'nostrictatime', 'lazytime', 'nolazytime', 'dev', 'nodev', 'suid', 'nosuid', 'exec', 'noexec',
  'async', 'sync', 'silent', 'loud',
]);

export function defaultOptions(): MountOptions {
  const o: Record<string, unknown> = {
    metadevPath: null, acl: true, readOnly: false, kernelOptions: [], peerNetworks: [],
  };
  for (const s of NUMBER_OPTIONS) o[s.key] = s.def;
  return o as unknown as MountOptions;
}

function malformed(element: string, why: string): ScoutfsError {
  return new ScoutfsError('MOUNT_OPTION', 'EINVAL', {
    message: `Unknown or malformed option, "${element}": ${why}`,
  });
}

/** A C style unsigned integer, null when the text is not one. */
export function parseCInteger(text: string): number | null {
  const octal = /^0[0-7]+$/.test(text);
  if (!octal && !/^(0[xX][0-9a-fA-F]+|[1-9][0-9]*|0)$/.test(text)) return null;
  const n = octal ? parseInt(text, 8) : Number(text);
  return Number.isSafeInteger(n) ? n : null;
}

/** Checks a value against an option's range. @throws EINVAL */
export function checkOption(name: string, text: string): { spec: NumberSpec; value: number } {
  const spec = NUMBER_OPTIONS.find((s) => s.name === name);
  if (spec === undefined) throw malformed(name, 'no such option');
  const value = parseCInteger(text);
  if (value === null) throw malformed(`${name}=${text}`, 'not a number');
  if (value < spec.min || value > spec.max) {
    throw malformed(`${name}=${text}`, `must be ${spec.min} to ${spec.max}`);
  }
  return { spec, value };
}

/**
 * Changes an option of a mount that is up. @throws EINVAL out of range; EACCES when it
 * cannot be changed any more
 */
export function changeOption(o: MountOptions, name: string, text: string): keyof MountOptions {
  const { spec, value } = checkOption(name, text);
  if (!spec.live) throw errnoError('EACCES', `${name} cannot be changed while mounted`);
  store(o, spec, value);
  return spec.key;
}

function store(o: MountOptions, spec: NumberSpec, value: number): void {
  (o as unknown as Record<string, unknown>)[spec.key] = value;
}

/** Parses an option list. @throws EINVAL naming the first bad element */
export function parseOptions(list: string): MountOptions {
  const o = defaultOptions();
  const seen = new Set<string>();
  for (const element of list.split(',')) {
    if (element !== '') parseElement(o, seen, element);
  }
  return o;
}

function parseElement(o: MountOptions, seen: Set<string>, element: string): void {
  const eq = element.indexOf('=');
  const name = eq < 0 ? element : element.slice(0, eq);
  const value = eq < 0 ? null : element.slice(eq + 1);
  const text = TEXT_OPTIONS.find((s) => s.name === name);
  if (text !== undefined) {
    if (value === null || value === '') throw malformed(element, `needs a ${text.value}`);
    applyText(o, text, element, value);
    return;
  }
  if (value === null && KERNEL_OPTIONS.has(name)) {
    o.kernelOptions.push(name);
    return;
  }
  const flag = FLAG_OPTIONS.find((f) => f.name === name);
  if (flag !== undefined || IGNORED.has(name) || name.startsWith('x-') || name === 'comment') {
    if (value !== null && flag !== undefined) throw malformed(element, 'takes no value');
    flag?.apply(o);
    return;
  }
  if (!NUMBER_OPTIONS.some((s) => s.name === name)) throw malformed(element, 'no such option');
  if (value === null) throw malformed(element, 'needs a value');
  const { spec, value: n } = checkOption(name, value);
  if (spec.once === true && seen.has(name)) throw malformed(element, 'may be given only once');
  seen.add(name);
  store(o, spec, n);
}

function applyText(o: MountOptions, spec: TextSpec, element: string, value: string): void {
  try {
    spec.apply(o, value);
  } catch (e) {
    throw malformed(element, asScoutfsError(e).message);
  }
}

/** The options in effect as upstream's mount table lists them, and networks if there are any. */
export function shownOptions(o: Readonly<MountOptions>): string {
  return [
    ...(o.acl ? ['acl'] : []),
    `data_prealloc_blocks=${o.dataPreallocBlocks}`,
    `data_prealloc_contig_only=${o.dataPreallocContigOnly}`,
    `ino_alloc_per_lock=${o.inoAllocPerLock}`,
    `metadev_path=${o.metadevPath ?? ''}`,
    ...(o.acl ? [] : ['noacl']),
    `orphan_scan_delay_ms=${o.orphanScanDelayMs}`,
    ...(o.peerNetworks.length === 0 ? [] : [`peer_networks=${networksString(o.peerNetworks)}`]),
    ...(o.quorumSlotNr === null ? [] : [`quorum_slot_nr=${o.quorumSlotNr}`]),
    `tcp_keepalive_timeout_ms=${o.tcpKeepaliveTimeoutMs}`,
  ].join(',');
}
