/**
 * The configuration of the fencing daemon: upstream's file, a fragment of shell script.
 *
 * Upstream sources it in bash. Here it is read by a parser that knows assignments and
 * nothing else, so that a file which does more is refused instead of half understood:
 *
 *   file       = { [ "export" ] { NAME "=" word | NAME } ( newline | ";" ) | comment }
 *   word       = { plain | "\" any | "'" ... "'" | '"' ... '"' }       as in the shell
 *
 * Expansions ($, backquotes, a leading ~), arrays, redirections and commands are errors
 * that name their line. Exported variables are passed to the run command, like those of
 * our own environment. The last assignment of a name wins.
 * Spec: cli.md 4, recovery.md 3.3.
 */
import { errnoError } from '../observe/errors.js';

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
const FILE_CHARS_MAX = 64 * 1024;
const VARIABLES_MAX = 1000;

export interface FencedConfig {
  delayMs: number;
  run: string;
  runArgs: readonly string[];
  /** All variables with upstream's prefix, in the order of the file: they are logged. */
  variables: ReadonlyMap<string, string>;
  /** What `export` names: for the environment of the run command. */
  exported: Readonly<Record<string, string>>;
}

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
/** Escapes of a backslash between double quotes. */
const ESCAPED = '$`"\\';
/** What ends a plain word, or makes it something that is not just text. */
const SPECIAL = '$`()<>|&{}';

class Parser {
  readonly values = new Map<string, string>();
  readonly exports = new Set<string>();
  private at = 0;

  constructor(private readonly text: string, private readonly file: string) {}

  run(): void {
    while (this.at < this.text.length) {
      this.blanks();
      if (this.peek() === '#') this.comment();
      else if (this.peek() === ';') this.refuse('; without an assignment before it');
      else if (this.endsCommand()) this.at++;
      else this.command();
    }
  }

  private peek(offset = 0): string {
    return this.text.charAt(this.at + offset);
  }

  /** @throws EINVAL with the line that the parser has reached */
  private refuse(what: string, at = this.at): never {
    const line = this.text.slice(0, at).split('\n').length;
    throw errnoError('EINVAL', `${this.file}: line ${line}: ${what}`);
  }

  private blanks(): void {
    while (this.at < this.text.length) {
      if (this.peek() === '\\' && this.peek(1) === '\n') this.at += 2;
      else if (' \t\r'.includes(this.peek())) this.at++;
      else return;
    }
  }

  private comment(): void {
    while (this.at < this.text.length && this.peek() !== '\n') this.at++;
  }

  private endsCommand(): boolean {
    return this.at >= this.text.length || this.peek() === '\n' || this.peek() === ';';
  }

  private name(): string | null {
    NAME.lastIndex = this.at;
    const found = NAME.exec(this.text)?.[0] ?? null;
    if (found !== null) this.at += found.length;
    return found;
  }

  /** Assignments up to the end of the line. */
  private command(): void {
    let exporting = false;
    for (let first = true; ; first = false) {
      this.blanks();
      if (this.peek() === '#') this.comment();
      if (this.endsCommand()) {
        this.at++;
        return;
      }
      const start = this.at;
      const name = this.name();
      if (name !== null && this.peek() === '=') {
        this.at++;
        this.assign(name, this.word());
        if (exporting) this.exports.add(name);
      } else if (name === 'export' && first && (this.atBlank() || this.endsCommand())) {
        exporting = true;
      } else if (name !== null && exporting && (this.atBlank() || this.endsCommand())) {
        this.exports.add(name);
      } else {
        const word = this.text.slice(start).split(/\s/, 1)[0] ?? '';
        this.refuse(`'${word.slice(0, 60)}' is not an assignment (commands are not run here)`,
          start);
      }
    }
  }

  private atBlank(): boolean {
    return ' \t\r'.includes(this.peek()) && this.at < this.text.length;
  }

  private assign(name: string, value: string): void {
    this.values.set(name, value);
    if (this.values.size > VARIABLES_MAX) this.refuse(`more than ${VARIABLES_MAX} variables`);
  }

  private word(): string {
    let word = '';
    if (this.peek() === '~') this.refuse('a leading ~ is not expanded: write the path itself');
    while (!this.endsCommand() && !this.atBlank()) {
      const c = this.peek();
      if (c === '\'') word += this.quoted();
      else if (c === '"') word += this.doubleQuoted();
      else if (c === '\\') word += this.escaped();
      else if (SPECIAL.includes(c)) this.refuse(`${c} has no meaning here: quote it with '...'`);
      else {
        word += c;
        this.at++;
      }
    }
    return word;
  }

  private escaped(): string {
    const c = this.peek(1);
    if (c === '') this.refuse('a \\ at the end of the file');
    this.at += 2;
    return c === '\n' ? '' : c;
  }

  private quoted(): string {
    const start = this.at;
    const end = this.text.indexOf('\'', start + 1);
    if (end < 0) this.refuse('a \' that is not closed', start);
    this.at = end + 1;
    return this.text.slice(start + 1, end);
  }

  private doubleQuoted(): string {
    const start = this.at++;
    let text = '';
    while (this.peek() !== '"') {
      const c = this.peek();
      if (c === '') this.refuse('a " that is not closed', start);
      if (c === '$' || c === '`') {
        this.refuse(`${c} is not expanded: write the value itself, or quote it with '...'`);
      }
      const escape = c === '\\' && (ESCAPED + '\n').includes(this.peek(1)) && this.peek(1) !== '';
      if (escape) this.at++;
      if (!escape || this.peek() !== '\n') text += this.peek();
      this.at++;
    }
    this.at++;
    return text;
  }
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

/**
 * Reads a configuration. `file` names it in errors.
 * @throws EINVAL in one line that says which line, or which variable, is wrong
 */
export function parseFencedConfig(text: string, file: string): FencedConfig {
  if (text.length > FILE_CHARS_MAX) {
    throw errnoError('EINVAL', `${file}: longer than ${FILE_CHARS_MAX} characters`);
  }
  if (text.includes('\0')) throw errnoError('EINVAL', `${file}: contains a NUL byte`);
  const parser = new Parser(text, file);
  parser.run();
  const { values } = parser;
  const run = values.get(`${PREFIX}RUN`) ?? '';
  if (run === '') {
    throw errnoError('EINVAL', `${file}: ${PREFIX}RUN is not set: it names the program that ` +
      'cuts a mount off');
  }
  return {
    run, delayMs: delayOf(file, values.get(`${PREFIX}DELAY`)),
    runArgs: (values.get(`${PREFIX}RUN_ARGS`) ?? '').split(/\s+/).filter((w) => w !== ''),
    variables: new Map([...values].filter(([name]) => name.startsWith(PREFIX))),
    exported: Object.fromEntries([...values].filter(([name]) => parser.exports.has(name))),
  };
}

/** The packaged example. */
export function fencedConfigExample(): string {
  const variables = FENCED_VARIABLES.map((v) => `\n# ${v.description}.\n${v.name}=${v.example}\n`);
  return `# Example configuration of scoutfs-fenced; see scoutfs-fenced(8).
#
# Assignments as in a shell, with its quotes. Nothing is expanded and no command is run.
# Exported variables are passed to the program.
${variables.join('')}`;
}
