/**
 * What the exercisers share: random choices from a seed, the record of what was done last,
 * and how a difference between the mount and the model is told.
 *
 * An exerciser makes one operation per `step`, on the mount and on its model in memory, and
 * compares what both answer. Same seed, same operations: they depend on nothing but the seed
 * and their number. Several run at once in processes of their own (`worker.ts`), each in a
 * directory of its own, so that every one stays replayable.
 */

/** Operations that a difference shows. */
const REMEMBERED = 40;

export interface Exerciser {
  /** One operation. @throws Difference */
  step(): void;
  /** Closes what is open: the volume will be unmounted. */
  pause(): void;
  /** Opens again and compares everything. @throws Difference */
  resume(): void;
  /** Operations by name, for the report. */
  readonly counts: Map<string, number>;
}

export class Difference extends Error {}

/** Mulberry32: small, fast, good enough to choose operations. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** A number in 0 .. 2^32 - 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let x = this.state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }

  /** A whole number in 0 .. n - 1. */
  below(n: number): number {
    return this.next() % n;
  }

  /** True once in n. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
}

/** Counts operations and keeps the last ones. */
export class Journal {
  readonly counts = new Map<string, number>();
  private readonly last: string[] = [];
  /** Operations so far. */
  nr = 0;

  constructor(private readonly what: string) {}

  /** Notes an operation before it is made. */
  op(name: string, detail: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    this.last[this.nr % REMEMBERED] = `${this.nr}: ${name} ${detail}`;
    this.nr += 1;
  }

  /** A difference, with what led to it. */
  differs(how: string): Difference {
    const from = Math.max(0, this.nr - REMEMBERED);
    const lines: string[] = [];
    for (let i = from; i < this.nr; i++) lines.push(this.last[i % REMEMBERED] ?? '');
    return new Difference(`${this.what}: operation ${this.nr - 1}: ${how}\n  ${
      lines.join('\n  ')}`);
  }
}

/** A choice by weights: the names as often as their numbers say. */
export class Weighted<T> {
  private readonly table: T[] = [];

  constructor(weights: readonly (readonly [T, number])[]) {
    for (const [item, weight] of weights) for (let i = 0; i < weight; i++) this.table.push(item);
  }

  pick(rnd: Random): T {
    return rnd.pick(this.table);
  }
}
