/**
 * Values that programs tend to be wrong about: the ends of ranges, what is near them, what
 * is near the value that was there, and the numbers of other things in the same volume.
 */
export type Below = (n: number) => number;

/** Numbers that mean something where a value is put: of blocks with their seqs, and others. */
export interface Numbers {
  readonly blocks: readonly { readonly blkno: number; readonly seq: bigint }[];
  readonly inos: readonly bigint[];
}

export function pick<T>(below: Below, list: readonly T[]): T {
  const found = list[below(list.length)];
  if (found === undefined) throw new Error('nothing to pick from');
  return found;
}

/** Around the limits of the format: values, lists, blocks, names, heights. */
const LIMITS = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 20, 21, 48, 56, 63, 64, 65, 104, 127, 128, 255,
  256, 896, 897, 1023, 1024, 4093, 4094, 4095, 4096, 4097, 8184, 8185, 8186, 32767, 32768, 62512,
  65487, 65488, 65528, 65535, 65536] as const;

/** A value for a field of `bits` that holds `old` now. */
export function nasty(below: Below, bits: number, old: bigint, map: Numbers): bigint {
  const max = (1n << BigInt(bits)) - 1n;
  const sign = 1n << BigInt(bits - 1);
  const choices: (() => bigint)[] = [
    () => 0n, () => 1n, () => max, () => max - 1n, () => sign, () => sign - 1n,
    () => old + 1n, () => old - 1n, () => old * 2n, () => ~old,
    () => old ^ (1n << BigInt(below(bits))),
    () => BigInt(pick(below, LIMITS)),
    () => BigInt(below(256)),
    () => random(below, bits),
  ];
  if (bits === 64) {
    choices.push(
      () => BigInt(Number.MAX_SAFE_INTEGER), () => BigInt(Number.MAX_SAFE_INTEGER) + 1n,
      () => 1n << BigInt(below(64)), () => (1n << BigInt(below(64))) - 1n,
      () => BigInt(pick(below, map.blocks).blkno), () => BigInt(pick(below, map.blocks).blkno),
      () => pick(below, map.blocks).seq, () => pick(below, map.inos), () => pick(below, map.inos),
    );
  }
  return BigInt.asUintN(bits, pick(below, choices)());
}

/** All bits at random. */
export function random(below: Below, bits: number): bigint {
  let n = 0n;
  for (let i = 0; i < bits; i += 8) n = (n << 8n) | BigInt(below(256));
  return BigInt.asUintN(bits, n);
}

export function readNumber(bytes: Uint8Array, off: number, len: number): bigint {
  let n = 0n;
  for (let i = len - 1; i >= 0; i--) n = (n << 8n) | BigInt(bytes[off + i] ?? 0);
  return n;
}

export function writeNumber(bytes: Uint8Array, off: number, len: number, n: bigint): void {
  for (let i = 0; i < len; i++) bytes[off + i] = Number((n >> BigInt(8 * i)) & 255n);
}
