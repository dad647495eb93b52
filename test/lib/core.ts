/**
 * A raw instance of the core for tests: build/core.wasm over a memory of its own,
 * with views of it and helpers to put bytes and keys there. Calls can be counted
 * and made to trap like in production.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { instantiateSync } from '@assemblyscript/loader';
import { repoDir } from './shared.js';

export { bytesHex, hexBytes } from './hex.js';

const WASM_PAGE_BYTES = 65536;
/** First byte that neither static data nor low memory uses, in every test. */
export const TEST_BASE = 1 << 20;

type RawFn = (...args: never[]) => unknown;

export interface RawCore<T> {
  /** the exports, with the types that the test gives them */
  x: T;
  memory: WebAssembly.Memory;
  u8: Uint8Array;
  view: DataView;
  /** number of calls of each export since `countCalls` was set */
  calls: Map<string, number>;
}

export interface RawCoreOptions {
  memoryBytes?: number;
  /** count every call of an export in `calls` (slower) */
  countCalls?: boolean;
}

let compiled: WebAssembly.Module | undefined;

/** Every number is an i32, u32, f32 or f64 and every bigint an i64 of the core. */
export function rawCore<T>(opts: RawCoreOptions = {}): RawCore<T> {
  const pages = Math.ceil((opts.memoryBytes ?? 64 << 20) / WASM_PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  compiled ??= new WebAssembly.Module(readFileSync(join(repoDir, 'build', 'core.wasm')));
  const invariantBroken = (id: number): never => { throw new Error(`invariant ${id}`); };
  const { exports } = instantiateSync(compiled, { env: { memory }, host: { invariantBroken } });
  const calls = new Map<string, number>();
  const raw = exports as unknown as Record<string, RawFn>;
  const x = opts.countCalls === true ? counted(raw, calls) : raw;
  return {
    x: x as unknown as T,
    memory,
    u8: new Uint8Array(memory.buffer),
    view: new DataView(memory.buffer),
    calls,
  };
}

/** The same exports, with every call of them counted by name in `calls`. */
export function counted<T extends object>(raw: T, calls: Map<string, number>): T {
  return new Proxy(raw, {
    get(target, name: string) {
      const fn = Reflect.get(target, name) as unknown;
      if (typeof fn !== 'function') return fn;
      return (...args: never[]): unknown => {
        calls.set(name, (calls.get(name) ?? 0) + 1);
        return (fn as RawFn)(...args);
      };
    },
  });
}

/** Small deterministic generator (xorshift) for tests that need many cheap numbers. */
export function seeded(seed: number): (below: number) => number {
  let s = seed | 0 || 1;
  return (below) => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) % below;
  };
}
