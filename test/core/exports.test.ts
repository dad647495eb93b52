/**
 * The interfaces that TypeScript declares for the core's calls against the module:
 * every call exists with as many parameters, numbers are numbers and 64-bit integers
 * are bigints, nothing returns a value that the declaration does not have, and what
 * the module exports beyond that is known.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { coreModuleBytes } from '../../host/env/core_module.js';
import { ALLOCATOR_BYTES, WSET_BYTES } from '../../host/core/exports.js';
import { repoDir } from '../lib/shared.js';
import { exportsOf } from '../lib/wasm.js';

const DECLARED: [file: string, name: string][] = [
  ['host/core/exports.ts', 'CoreExports'],
  ['host/core/item_exports.ts', 'ItemExports'],
];

/** Exports that only tests call; they declare what they use themselves. */
const TEST_ONLY = new Set([
  'keyCmp', 'keyEq', 'keyCopy', 'keyZeros', 'keyOnes', 'keyInc', 'keyDec', 'keyIsZeros',
  'keyIsOnes', 'keySet', 'fnv32', 'fnv64', 'nameFingerprint', 'nameHash', 'crc32c', 'heapInit',
  'heapLargestFree', 'deltaCombine', 'blockForget', 'testFill', 'testCheck', 'testSrchRef',
]);

const source = (file: string): string => readFileSync(join(repoDir, file), 'utf8');

interface Call {
  params: string[];
  result: string;
}

/** Parameter types of a declaration's text; tuples and `...key: KeyArgs` are written out. */
function params(text: string, tuples: Map<string, string[]>): string[] {
  const out: string[] = [];
  const expand = (type: string): string[] => {
    const known = tuples.get(type);
    if (known !== undefined) return known;
    const inner = /^\[(.*)\]$/.exec(type)?.[1];
    if (inner === undefined) return [type];
    return inner.split(',').map((s) => s.trim().replace(/^\w+: /, ''))
      .flatMap((s) => (s.startsWith('...') ? expand(s.slice(3)) : [s]));
  };
  // commas inside of brackets belong to a tuple
  for (const part of text.split(/,(?![^[]*\])/)) {
    const m = /^\s*(\.\.\.)?\w+\??: ([\s\S]+?)\s*$/.exec(part);
    const type = m?.[2]?.replace(/\s+/g, ' ');
    if (type === undefined) continue;
    if (m?.[1] === undefined) out.push(type);
    else out.push(...expand(type));
  }
  return out;
}

function declaredCalls(file: string, name: string):
{ calls: Map<string, Call>; globals: string[] } {
  const text = source(file);
  const tuples = new Map([...text.matchAll(/^type (\w+) = (\[[\s\S]*?\]);/gm)].map((m) =>
    [m[1] ?? '', params(`...x: ${m[2] ?? ''}`, new Map())]));
  const from = text.slice(text.indexOf(`interface ${name}`));
  const body = from.slice(from.indexOf('{') + 1, from.indexOf('\n}'))
    .replace(/\/\*\*[\s\S]*?\*\//g, '').replace(/\/\/.*/g, '');
  const calls = new Map<string, Call>();
  for (const m of body.matchAll(/^ {2}(\w+)\(([\s\S]*?)\): (\w+);/gm)) {
    calls.set(m[1] ?? '', { params: params(m[2] ?? '', tuples), result: m[3] ?? '' });
  }
  return { calls, globals: [...body.matchAll(/readonly (\w+): \{ value/g)].map((m) => m[1] ?? '') };
}

const WASM_OF: Record<string, string[]> = {
  number: ['i32', 'f64', 'f32'], Ptr: ['i32'], bigint: ['i64'], boolean: ['i32'],
};

function fits(declared: string, wasm: string): boolean {
  return declared.split(' | ').some((d) => WASM_OF[d]?.includes(wasm) === true);
}

t.test('declarations and module agree', (t) => {
  const { functions: real, globals: realGlobals } = exportsOf(coreModuleBytes());
  const names = new Set<string>();
  for (const [file, name] of DECLARED) {
    const { calls, globals } = declaredCalls(file, name);
    t.ok(calls.size > 30, `${name} declares ${calls.size} calls`);
    for (const [n, call] of calls) {
      names.add(n);
      const fn = real.get(n);
      t.ok(fn, `${n} is exported`);
      t.equal(fn?.params.length, call.params.length, `parameters of ${n}`);
      call.params.forEach((p, i) => {
        t.ok(fits(p, fn?.params[i] ?? ''), `${n} parameter ${i}: ${p}`);
      });
      if (call.result === 'void') t.strictSame(fn?.results, [], `${n} returns nothing`);
      else t.ok(fits(call.result, fn?.results[0] ?? ''), `${n} returns ${call.result}`);
    }
    for (const g of globals) {
      names.add(g);
      t.ok(realGlobals.has(g), `global ${g}`);
    }
  }
  t.strictSame([...real.keys()].filter((n) => !names.has(n) && !TEST_ONLY.has(n)), [],
    'every export is declared');
  t.end();
});

t.test('sizes of the records that the host provides', (t) => {
  const size = (file: string, name: string): number =>
    Number(new RegExp(`const ${name}: i32 = (\\d+);`).exec(source(file))?.[1]);
  t.equal(size('assembly/block.ts', 'WSET_BYTES'), WSET_BYTES);
  t.equal(size('assembly/alloc_meta.ts', 'ALLOC_BYTES'), ALLOCATOR_BYTES);
  const host = source('host/core/core.ts');
  const layout = source('assembly/layout.ts');
  for (const name of ['NEED_WINDOW', 'LIST_WINDOW']) {
    const at = (text: string): string | undefined =>
      new RegExp(`const ${name}(?:: \\w+)? = (\\d+);`).exec(text)?.[1];
    t.equal(at(host), at(layout), name);
    t.ok(at(host));
  }
  t.end();
});

t.test('corruptions have an id on both sides', (t) => {
  const core = [...source('assembly/block.ts').matchAll(/export const CORRUPT_\w+: i32 = (\d+);/g)]
    .map((m) => Number(m[1]));
  const host = [...source('host/core/corruption.ts').matchAll(/^ {2}\{ id: '(\w+)'/gm)]
    .map((m) => m[1] ?? '');
  t.strictSame(core, host.slice(1).map((_, i) => i + 1));
  t.equal(new Set(host).size, host.length, 'ids are unique');
  t.end();
});
