/**
 * The control files of a mount: what each shows and takes.
 *
 *   data_device_maj_min format_version fsid rid      identity
 *   options log_level                                ours: mount options as text; the log
 *   counters/<name>                                  upstream's 202
 *   mount_options/<name> volume_options/<name>       changeable while mounted
 *   srch/compact_delay_ms
 *   debug/client_locks debug/trigger/<name> ...      upstream's debugfs
 *   debug/pending debug/mounts debug/members         ours: for `scoutfs cluster`
 *   quorum/ fence/                                   of members: server/member_files.ts
 *
 * Names, formats and ranges are upstream's. Spec: cli.md 3, super.md 2, recovery.md 7.
 */
import type { VolumeOptions } from '../core/format.js';
import { VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT } from '../core/constants.js';
import type { MountOptions } from '../mount/options.js';
import { NUMBER_OPTIONS, parseCInteger, shownOptions } from '../mount/options.js';
import type { ControlTree } from '../observe/control.js';
import { COUNTER_NAMES, OWN_START } from '../observe/counters.js';
import { errnoError } from '../observe/errors.js';
import type { Log, LogLevel } from '../observe/log.js';
import { LOG_LEVELS, hex16, isLogLevel } from '../observe/log.js';
import type { TriggerName } from '../observe/triggers.js';
import { TRIGGER_NAMES } from '../observe/triggers.js';
import { MEMBER_VIEWS } from '../server/member_protocol.js';
import type { MemberView } from '../server/member_protocol.js';

/** Options that upstream does not show as files. */
const NOT_SHOWN = new Set(['tcp_keepalive_timeout_ms']);
/** Longest text that a volume option takes. */
const VOLOPT_BYTES_MAX = 31;
const COMPACT_DELAY_MIN_MS = 1000;
const COMPACT_DELAY_MAX_MS = 60_000;

/** What the files need of a mount. */
export interface ShownMount {
  readonly fsid: bigint;
  readonly rid: bigint;
  readonly formatVersion: number;
  readonly dataMajMin: readonly [number, number];
  readonly options: Readonly<MountOptions>;
  readonly log: Log;
  /** Changes an option that may be changed. @throws EINVAL, ESHUTDOWN */
  setOption(name: string, text: string): void;
  setLogLevel(level: LogLevel): void;
  compactDelayMs: number;
  /** The value of one counter, the quorum thread's included. `nr` is a member of `C`. */
  counter(nr: number): number | Promise<number>;
  getVolopt(): Promise<VolumeOptions>;
  setVolopt(options: VolumeOptions): Promise<void>;
  clearVolopt(options: VolumeOptions): Promise<void>;
  /** One line per lock. */
  lockLines(): string[];
  /** Forgets what weak reads are made from. */
  dropWeakItems(): void;
  /** Forgets answers of quota checks. */
  dropQuotaChecks(): void;
  isArmed(name: TriggerName): boolean | Promise<boolean>;
  arm(name: TriggerName, on: boolean): void;
  /** What the quorum blocks say of every slot. @throws ETIMEDOUT */
  members(): Promise<string>;
  /** A debug view of the quorum member's server; empty without one. */
  serverView(name: MemberView): Promise<string>;
}

/** Fills the tree with everything but a member's own files. */
export function addMountFiles(tree: ControlTree, m: ShownMount): void {
  const [major, minor] = m.dataMajMin;
  tree.add('data_device_maj_min', { read: () => `${major}:${minor}\n` });
  tree.add('format_version', { read: () => `${m.formatVersion}\n` });
  tree.add('fsid', { read: () => `${hex16(m.fsid)}\n` });
  tree.add('rid', { read: () => `${hex16(m.rid)}\n` });
  tree.add('options', { read: () => `${shownOptions(m.options)}\n` });
  tree.add('log_level', {
    read: () => `${m.log.level}\n`,
    write: (text) => {
      const level = text.trim();
      if (!isLogLevel(level)) {
        throw errnoError('EINVAL', `log level: not one of ${LOG_LEVELS.join(', ')}`);
      }
      m.setLogLevel(level);
    },
  });
  COUNTER_NAMES.slice(0, OWN_START).forEach((name, nr) => {
    tree.add(`counters/${name}`, { read: () => line(m.counter(nr)), looksWritable: true });
  });
  addOptions(tree, m);
  addVolumeOptions(tree, m);
  addDebug(tree, m);
}

function line(n: number | Promise<number>): string | Promise<string> {
  return typeof n === 'number' ? `${n}\n` : n.then((value) => `${value}\n`);
}

function addOptions(tree: ControlTree, m: ShownMount): void {
  tree.add('mount_options/metadev_path', { read: () => m.options.metadevPath ?? '' });
  for (const spec of NUMBER_OPTIONS) {
    if (spec.own === true || NOT_SHOWN.has(spec.name)) continue;
    const { name, key, live } = spec;
    // Only the slot ends with a line break, as upstream.
    const read = live ? () => String(m.options[key]) : () => `${String(m.options[key] ?? -1)}\n`;
    tree.add(`mount_options/${name}`, live
      ? { read, write: (text) => { m.setOption(name, withoutBreak(text)); } } : { read });
  }
  tree.add('srch/compact_delay_ms', {
    read: () => String(m.compactDelayMs),
    write: (text) => {
      const ms = parseCInteger(withoutBreak(text));
      if (ms === null || ms < COMPACT_DELAY_MIN_MS || ms > COMPACT_DELAY_MAX_MS) {
        throw errnoError('EINVAL',
          `compact_delay_ms must be ${COMPACT_DELAY_MIN_MS} to ${COMPACT_DELAY_MAX_MS}`);
      }
      m.compactDelayMs = ms;
    },
  });
}

function addVolumeOptions(tree: ControlTree, m: ShownMount): void {
  const bit = BigInt(VOLOPT_DATA_ALLOC_ZONE_BLOCKS_BIT);
  const args = (blocks: number): VolumeOptions => ({
    setBits: bit, dataAllocZoneBlocks: blocks, futureExpansion: [],
  });
  tree.add('volume_options/data_alloc_zone_blocks', {
    async read() {
      const { setBits, dataAllocZoneBlocks } = await m.getVolopt();
      return (setBits & bit) === 0n ? '' : String(dataAllocZoneBlocks);
    },
    write(text) {
      if (/^[\r\n]/.test(text)) return m.clearVolopt(args(0));
      if (text.length > VOLOPT_BYTES_MAX) throw errnoError('ERANGE');
      const blocks = parseCInteger(withoutBreak(text));
      if (blocks === null) throw errnoError('EINVAL', 'data_alloc_zone_blocks: not a number');
      return m.setVolopt(args(blocks));
    },
  });
}

function addDebug(tree: ControlTree, m: ShownMount): void {
  const lines = (all: string[]): string => all.map((l) => `${l}\n`).join('');
  tree.add('debug/client_locks', { read: () => lines(m.lockLines()) });
  tree.add('debug/drop_weak_item_cache', { read: () => '', write: () => { m.dropWeakItems(); } });
  tree.add('debug/drop_quota_check_cache', {
    read: () => '', write: () => { m.dropQuotaChecks(); },
  });
  tree.add('debug/members', { read: () => m.members() });
  for (const name of MEMBER_VIEWS) {
    tree.add(`debug/${name}`, { read: () => m.serverView(name) });
  }
  for (const name of TRIGGER_NAMES) {
    tree.add(`debug/trigger/${name}`, {
      read: async () => await m.isArmed(name) ? '1\n' : '0\n',
      write: (text) => {
        const on = parseCInteger(withoutBreak(text));
        if (on !== 0 && on !== 1) throw errnoError('EINVAL', 'a trigger takes 0 or 1');
        m.arm(name, on === 1);
      },
    });
  }
}

/** Without the one line break that echo adds. */
function withoutBreak(text: string): string {
  return text.endsWith('\n') ? text.slice(0, -1) : text;
}
