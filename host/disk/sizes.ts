/**
 * Sizes as people read them: the value divided by 1024 until it is below 1024,
 * with two decimals and a unit.
 *
 * Spec: cli.md 1.2.
 */

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB', 'PB', 'EB', 'ZB', 'YB'] as const;

function scaled(bytes: number): [value: string, unit: string] {
  let n = bytes;
  let u = 0;
  while (n >= 1024 && u < UNITS.length - 1) {
    n /= 1024;
    u++;
  }
  return [n.toFixed(2), UNITS[u] ?? ''];
}

/** `1.00GB` */
export function sizeText(bytes: number): string {
  return scaled(bytes).join('');
}

/** `<blocks> (1.00 GB)` for a number of blocks of `blockBytes`. */
export function countText(blocks: number, blockBytes: number): string {
  return `${blocks} (${scaled(blocks * blockBytes).join(' ')})`;
}
