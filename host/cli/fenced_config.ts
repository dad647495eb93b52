/**
 * The configuration of the fencing daemon: upstream's file, a fragment of bash script.
 *
 * It is sourced by bash, as upstream does, because nothing less reads every such file. The
 * bash that does it is a child of its own with a bounded time: it sources the file, then
 * writes what came of it to descriptor 3, each word ended by a NUL,
 *
 *   v NAME VALUE   of every variable with upstream's prefix: they are logged
 *   e NAME VALUE   of every exported one: for the environment of the run command
 *   end
 *
 * A file that says anything on its standard error (an unknown command, a syntax error) is
 * refused with that line instead of half understood; so is one that ends the shell.
 * The file is as trusted as the program that it names: both run with our rights.
 * Spec: cli.md 4, recovery.md 3.3.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import { strerror } from '../observe/strerror.js';

export const FENCED_CONFIG_VARIABLE = 'SCOUTFS_FENCED_CONFIG_FILE';
export const FENCED_CONFIG_DEFAULT = '/etc/scoutfs/scoutfs-fenced.conf';
const PREFIX = 'SCOUTFS_FENCED_';

/** The variables of the file; help, manual page and example are made from it. */
export const FENCED_VARIABLES = [
  { name: `${PREFIX}DELAY`, example: '2',
    description: 'Seconds between two looks for requests, 0.1 to 3600; 2 if not set' },
  { name: `${PREFIX}RUN`, example: '/usr/libexec/scoutfs-fenced/run/ipmi-remote-host',
    description: 'The program that cuts a mount off; required' },
  { name: `${PREFIX}RUN_ARGS`, example: '',
    description: 'Arguments for that program, divided by blanks' },
] as const;

const DELAY_DEFAULT_SEC = 2;
const DELAY_MIN_SEC = 0.1;
const DELAY_MAX_SEC = 3600;
/** Sourcing a file takes no longer, and yields no more. */
const SOURCE_TIMEOUT_MS = 10_000;
const SOURCE_BYTES_MAX = 1024 * 1024;
const SAID_CHARS_MAX = 300;

export interface FencedConfig {
  delayMs: number;
  run: string;
  runArgs: readonly string[];
  /** All variables with upstream's prefix, in the order of their names: they are logged. */
  variables: ReadonlyMap<string, string>;
  /** The environment of the run command. */
  exported: Readonly<Record<string, string>>;
}

function delayOf(file: string, text: string | undefined): number {
  if (text === undefined || text === '') return DELAY_DEFAULT_SEC * 1000;
  const sec = /^\d{1,5}(\.\d{1,9})?$/.test(text) ? Number(text) : NaN;
  if (!(sec >= DELAY_MIN_SEC && sec <= DELAY_MAX_SEC)) {
    throw errnoError('EINVAL', `${file}: ${PREFIX}DELAY '${text.slice(0, 60)}' must be a number ` +
      `of seconds from ${DELAY_MIN_SEC} to ${DELAY_MAX_SEC}`);
  }
  return Math.round(sec * 1000);
}

/** `$1` is the file; the builtins are named as such because the file may redefine them. */
const SOURCE_SCRIPT = `. "$1"
builtin set +eu; builtin unset IFS
for name in \${!${PREFIX}@}; do builtin printf 'v\\0%s\\0%s\\0' "$name" "\${!name}" >&3; done
for name in $(builtin compgen -e); do builtin printf 'e\\0%s\\0%s\\0' "$name" "\${!name}" >&3; done
builtin printf 'end\\0' >&3`;

interface Sourced {
  variables: Map<string, string>;
  exported: Record<string, string>;
}

/** @throws in one line: the file cannot be read, or bash does not take it */
function source(path: string): Sourced {
  const file = path.includes('/') ? path : `./${path}`;
  const bash = spawnSync('bash', ['--noprofile', '--norc', '-c', SOURCE_SCRIPT, 'bash', file], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'], encoding: 'utf8',
    timeout: SOURCE_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: SOURCE_BYTES_MAX,
  });
  if (bash.error !== undefined) throw notSourced(path, asScoutfsError(bash.error).errno);
  const said = bash.stderr.split('\n', 1)[0]?.slice(0, SAID_CHARS_MAX) ?? '';
  if (said !== '') {
    throw errnoError('EINVAL', said.startsWith(`${file}: `) ? said : `${path}: ${said}`);
  }
  const words = (bash.output[3] ?? '').split('\0');
  if (words.at(-2) !== 'end') {
    const how = bash.signal ?? `exit status ${bash.status}`;
    throw errnoError('EINVAL', `${path}: ended the shell that read it (${how})`);
  }
  const found: Sourced = { variables: new Map(), exported: {} };
  for (let i = 0; i + 2 < words.length; i += 3) {
    const [kind, name, value] = [words[i], words[i + 1] ?? '', words[i + 2] ?? ''];
    if (kind === 'v') found.variables.set(name, value);
    else found.exported[name] = value;
  }
  return found;
}

function notSourced(path: string, errno: string): Error {
  switch (errno) {
    case 'ENOENT': return errnoError('ENOENT', `${path}: bash reads it and is not installed`);
    case 'ETIMEDOUT': return errnoError('ETIMEDOUT',
      `${path}: bash was not done with it after ${SOURCE_TIMEOUT_MS / 1000} s`);
    case 'ENOBUFS': return errnoError('EINVAL',
      `${path}: more than ${SOURCE_BYTES_MAX} bytes of variables or output`);
    default: return errnoError('EIO', `${path}: bash cannot be run: ${errno}`);
  }
}

/** @throws in one line: the file cannot be read */
function checkReadable(path: string): void {
  try {
    if (fs.statSync(path).isDirectory()) throw errnoError('EISDIR', 'a directory');
    fs.accessSync(path, fs.constants.R_OK);
  } catch (e) {
    const { errno } = asScoutfsError(e);
    throw errnoError(errno, `${path}: cannot read the configuration: ${strerror(errno)}`);
  }
}

function checkProgram(path: string, run: string): void {
  const refuse = (errno: 'ENOENT' | 'EACCES', why: string): never => {
    throw errnoError(errno, `${path}: ${PREFIX}RUN ${run}: ${why}`);
  };
  if (!run.startsWith('/')) refuse('ENOENT', 'not an absolute path');
  const st = fs.statSync(run, { throwIfNoEntry: false });
  if (st === undefined) refuse('ENOENT', 'no such file');
  else if (!st.isFile()) refuse('EACCES', 'not a file');
  else if ((st.mode & 0o111) === 0) refuse('EACCES', 'not executable');
}

/**
 * Reads a configuration.
 * @throws in one line: the file cannot be read, bash does not take it, a variable has no
 *   usable value, or the program cannot be run
 */
export function loadFencedConfig(path: string): FencedConfig {
  checkReadable(path);
  const { variables, exported } = source(path);
  const run = variables.get(`${PREFIX}RUN`) ?? '';
  if (run === '') {
    throw errnoError('EINVAL', `${path}: ${PREFIX}RUN is not set: it names the program that ` +
      'cuts a mount off');
  }
  checkProgram(path, run);
  return {
    run, delayMs: delayOf(path, variables.get(`${PREFIX}DELAY`)),
    runArgs: (variables.get(`${PREFIX}RUN_ARGS`) ?? '').split(/\s+/).filter((w) => w !== ''),
    variables, exported,
  };
}

/** The packaged example. */
export function fencedConfigExample(): string {
  const variables = FENCED_VARIABLES.map((v) => `\n# ${v.description}.\n${v.name}=${v.example}\n`);
  return `# Example configuration of scoutfs-fenced; see scoutfs-fenced(8).
#
# Sourced by bash. Exported variables are passed to the program.
${variables.join('')}`;
}
