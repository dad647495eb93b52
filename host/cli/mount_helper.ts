/**
 * Translates what mount(8) passes to a helper,
 *
 *   mount.scoutfs SOURCE DIRECTORY [-sfnv] [-N NS] [-t TYPE] -o OPTIONS
 *
 * into the words of `scoutfs mount [-f] [-v] -o OPTIONS SOURCE DIRECTORY`. The other
 * flags mean nothing to a daemon that keeps no mount table: -s (tolerate unknown
 * options), -n (do not write mtab), -N and -t (done by mount itself).
 *
 * Spec: cli.md 2.1.
 */

/** Options with an argument. */
const WITH_VALUE = new Set(['o', 'N', 't']);
const FLAGS = new Set(['s', 'f', 'n', 'v', 'w']);

/** Words for `scoutfs mount`, or null when the helper was called wrongly. */
export function mountArguments(argv: readonly string[]): string[] | null {
  const positional: string[] = [];
  const words: string[] = [];
  const queue = [...argv];
  for (let arg = queue.shift(); arg !== undefined; arg = queue.shift()) {
    if (!arg.startsWith('-') || arg === '-') {
      positional.push(arg);
      continue;
    }
    for (let i = 1; i < arg.length; i++) {
      const letter = arg.charAt(i);
      if (WITH_VALUE.has(letter)) {
        const value = i + 1 < arg.length ? arg.slice(i + 1) : queue.shift();
        if (value === undefined) return null;
        if (letter === 'o') words.push('-o', value);
        break;
      }
      if (letter === 'r') words.push('-o', 'ro');
      else if (!FLAGS.has(letter)) return null;
      else if (letter === 'f' || letter === 'v') words.push(`-${letter}`);
    }
  }
  return positional.length === 2 ? [...words, '--', ...positional] : null;
}
