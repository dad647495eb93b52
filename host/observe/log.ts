/**
 * The log: one logger over pino, one line per message.
 *
 * A line is `<time> <level> <prefix> <text>`, the prefix being the mount's
 * identity `f.<6 hex>.r.<6 hex>`: the upper 24 bits of its fsid and rid, as
 * upstream names mounts. A foreground program logs to standard error; a daemon
 * gives a path, which is written synchronously so that nothing is lost when the
 * process is killed. Line breaks in a message are escaped: one message can never
 * look like two. Which levels are written is shared by a log and all its prefixes and can
 * be changed at any time.
 *
 * Spec: cli.md 3.1 (identity).
 */
import { pino } from 'pino';

/** From the most to the least important. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Log {
  error(text: string): void;
  warn(text: string): void;
  info(text: string): void;
  debug(text: string): void;
  trace(text: string): void;
  /** Whether lines of that level are written: ask before building an expensive text. */
  enabled(level: LogLevel): boolean;
  /** The least important level that is written. */
  readonly level: LogLevel;
  setLevel(level: LogLevel): void;
  /** The same log with another prefix. */
  withPrefix(prefix: string): Log;
}

export interface LogOptions {
  level?: LogLevel;
  prefix?: string;
  /** Log file, appended to; absent: standard error. */
  path?: string;
  /** Where the lines go instead; for tests. */
  write?: (line: string) => void;
}

const SHORT_ID_SHIFT = 40n;
const SHORT_ID_DIGITS = 6;
const PINO_LEVELS: Record<number, string> = {
  10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal',
};

function shortId(id: bigint): string {
  return (BigInt.asUintN(64, id) >> SHORT_ID_SHIFT).toString(16).padStart(SHORT_ID_DIGITS, '0');
}

/** `f.<6 hex>.r.<6 hex>`: how a mount is called in logs and directory names. */
export function mountIdent(fsid: bigint, rid: bigint): string {
  return `f.${shortId(fsid)}.r.${shortId(rid)}`;
}

/** A rid or fsid as files and messages show it. */
export function hex16(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16).padStart(16, '0');
}

interface PinoLine {
  time: string;
  level: number;
  prefix?: string;
  msg: string;
}

function format(json: string): string {
  const line = JSON.parse(json) as PinoLine;
  const text = line.msg.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r');
  const prefix = line.prefix === undefined || line.prefix === '' ? '' : `${line.prefix} `;
  return `${line.time} ${PINO_LEVELS[line.level] ?? line.level} ${prefix}${text}\n`;
}

/** Whether a text names a level. */
export function isLogLevel(text: string): text is LogLevel {
  return (LOG_LEVELS as readonly string[]).includes(text);
}

/** A log that hands the lines of its level, and the prefix of each, to `write`. */
export function makeLog(level: LogLevel,
  write: (level: LogLevel, text: string, prefix: string) => void, prefix = ''): Log {
  const threshold = { level };
  const enabled = (l: LogLevel): boolean =>
    LOG_LEVELS.indexOf(l) <= LOG_LEVELS.indexOf(threshold.level);
  const withPrefix = (p: string): Log => {
    const line = (l: LogLevel) => (text: string): void => {
      if (enabled(l)) write(l, text, p);
    };
    return {
      error: line('error'), warn: line('warn'), info: line('info'), debug: line('debug'),
      trace: line('trace'), enabled, withPrefix,
      get level() { return threshold.level; },
      setLevel(l) { threshold.level = l; },
    };
  };
  return withPrefix(prefix);
}

/** Opens a log. @throws the error of opening `path` */
export function openLog(opts: LogOptions = {}): Log {
  const out = opts.write === undefined
    ? pino.destination({ dest: opts.path ?? 2, append: true, sync: true })
    : { write: opts.write };
  const logger = pino(
    { level: 'trace', base: null, timestamp: pino.stdTimeFunctions.isoTime },
    { write(json: string) { out.write(format(json)); } },
  );
  return makeLog(opts.level ?? 'info',
    (level, text, prefix) => { logger[level]({ prefix }, text); }, opts.prefix);
}

/** A log that drops everything. */
export const silentLog: Log = {
  error() {}, warn() {}, info() {}, debug() {}, trace() {},
  enabled: () => false,
  level: 'error',
  setLevel() {},
  withPrefix: () => silentLog,
};
