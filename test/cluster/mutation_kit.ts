/**
 * How a mutation is written: methods of the real program are replaced, and put back.
 */

export interface Mutation {
  name: string;
  /** the rule and where it stands */
  rule: string;
  /** seeds, from 1 on, within which it is noticed */
  seeds?: number;
  apply(): () => void;
}

/** An object with all its members open. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Open = Record<string, any>;

type Method = (this: Open, ...args: never[]) => unknown;

/** Replaces a method of a class by what `make` makes of it. @returns what puts it back */
export function patch(owner: { prototype: object }, name: string,
  make: (real: (this: Open, ...args: unknown[]) => unknown) => Method): () => void {
  const { prototype } = owner;
  const kept = Object.getOwnPropertyDescriptor(prototype, name);
  if (kept === undefined) throw new Error(`no method ${name} to break`);
  const real = kept.value as (this: Open, ...args: unknown[]) => unknown;
  Object.defineProperty(prototype, name, { ...kept, value: make(real) });
  return () => { Object.defineProperty(prototype, name, kept); };
}

export function nothing(): void {
  // A mutation that leaves something out.
}

/** Replaces a member of an object while `fn` runs, also when that takes time. */
export async function during<T>(owner: Open, name: string, value: unknown, fn: () => T):
Promise<Awaited<T>> {
  const kept: unknown = owner[name];
  owner[name] = value;
  try {
    return await fn();
  } finally {
    owner[name] = kept;
  }
}

/** The same for what takes no time. */
export function within<T>(owner: Open, name: string, value: unknown, fn: () => T): T {
  const kept: unknown = owner[name];
  owner[name] = value;
  try {
    return fn();
  } finally {
    owner[name] = kept;
  }
}
