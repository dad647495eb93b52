/**
 * The log: one logger over pino, one line per message.
 *
 * A line is `<time> <level> <prefix> <text>`, the prefix being the mount's
 * identity `f.<6 hex>.r.<6 hex>`: the upper 24 bits of its fsid and rid, as
 * upstream names mounts. A foreground program logs to standard error; a daemon
 * gives a path, which is written synchronously so that nothing is lost when the
 * process is killed. Line breaks in a message are escaped: one message can never
 * look like two.
 *
 * Spec: cli.md 3.1 (identity).
 */
import { pino } from 'pino';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';

export interface Log {
  error(text: string): void;
  warn(text: string): void;
  info(text: string): void;
  debug(text: string): void;
  trace(text: string): void;
  /** Whether lines of that level are written: ask before building an expensive text. */
  enabled(level: LogLevel): boolean;
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

function wrap(logger: pino.Logger): Log {
  return {
    error(text) { logger.error(text); },
    warn(text) { logger.warn(text); },
    info(text) { logger.info(text); },
    debug(text) { logger.debug(text); },
    trace(text) { logger.trace(text); },
    enabled(level) { return logger.isLevelEnabled(level); },
    withPrefix(prefix) { return wrap(logger.child({ prefix })); },
  };
}

/** Opens a log. @throws the error of opening `path` */
export function openLog(opts: LogOptions = {}): Log {
  const out = opts.write === undefined
    ? pino.destination({ dest: opts.path ?? 2, append: true, sync: true })
    : { write: opts.write };
  const logger = pino(
    { level: opts.level ?? 'info', base: null, timestamp: pino.stdTimeFunctions.isoTime },
    { write(json: string) { out.write(format(json)); } },
  );
  return wrap(opts.prefix === undefined ? logger : logger.child({ prefix: opts.prefix }));
}

/** A log that drops everything. */
export const silentLog: Log = {
  error() {}, warn() {}, info() {}, debug() {}, trace() {},
  enabled: () => false,
  withPrefix: () => silentLog,
};
