/**
 * The border between host and core: the exports are those that TypeScript declares,
 * the windows are where both sides think they are, and the face crosses the border once
 * per operation.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ITEM_WINDOWS, NOT_COVERED } from '../../host/core/item_exports.js';
import { CoreItems } from '../../host/core/item_face.js';
import { VAL_MAX_BYTES } from '../../host/core/items.js';
import { counted, rawCore } from '../lib/core.js';
import { TestCache, WRITE, WRITE_ONLY, denseEnd, denseKey } from '../lib/item_cache.js';
import { repoDir } from '../lib/shared.js';

/** Names of the methods that an interface in a source file declares. */
function declared(file: string, name: string): string[] {
  const text = readFileSync(join(repoDir, file), 'utf8');
  const body = text.slice(text.indexOf(`interface ${name}`));
  return [...body.slice(0, body.indexOf('\n}')).matchAll(/^ {2}(?:readonly )?(\w+)[(:]/gm)]
    .map((m) => m[1] ?? '');
}

/** A constant of assembly/window.ts or item.ts. */
function constant(file: string, name: string): number {
  const text = readFileSync(join(repoDir, file), 'utf8');
  return Number(new RegExp(`const ${name}: \\w+ = (-?\\d+);`).exec(text)?.[1]);
}

t.test('every declared call is exported', (t) => {
  const { x } = rawCore<Record<string, unknown>>({ memoryBytes: 2 << 20 });
  const names = declared('host/core/item_exports.ts', 'ItemExports');
  t.ok(names.length > 50, `${names.length} item calls`);
  t.same(names.filter((n) => typeof x[n] !== 'function'), []);
  const core = declared('host/core/exports.ts', 'CoreExports');
  t.ok(core.length > 40, `${core.length} tree calls`);
  t.same(core.filter((n) => x[n] === undefined), []);
  t.end();
});

t.test('both sides mean the same places and numbers', (t) => {
  const at = (name: string): number => constant('assembly/window.ts', name);
  t.same(ITEM_WINDOWS, {
    keyA: at('KEY_A'), keyB: at('KEY_B'), found: at('KEY_FOUND'), missing: at('KEY_MISSING'),
    val: at('VAL_WINDOW'), name: at('NAME_WINDOW'),
  });
  t.ok(ITEM_WINDOWS.val + VAL_MAX_BYTES <= ITEM_WINDOWS.name);
  t.equal(constant('assembly/item.ts', 'NOT_COVERED'), NOT_COVERED);
  t.end();
});

t.test('an operation of the face crosses the border once', (t) => {
  const cache = new TestCache(1 << 20);
  const calls = new Map<string, number>();
  const items = new CoreItems({ x: counted(cache.core.x, calls), bytes: cache.core.bytes,
    view: cache.core.view }, () => { throw new Error('not cached'); });
  const lock = cache.lock(denseKey(0), denseEnd(99), WRITE, 5);
  const blind = cache.lock(denseKey(200), denseEnd(299), WRITE_ONLY, 6);
  cache.core.x.itemSetTransSeq(10);
  cache.fill(lock, denseKey(0), denseEnd(99), []);
  const whole = cache.lock({ ...denseKey(0), first: 1024n, type: 0 },
    { ...denseEnd(0), first: 2047n, type: 255, second: 2n ** 64n - 1n }, WRITE, 5);
  cache.fill(whole, { ...denseKey(0), first: 1024n, type: 0 },
    { ...denseEnd(0), first: 2047n, type: 255, second: 2n ** 64n - 1n }, []);
  items.nameBytes.set([97, 98, 99]);
  const wide = denseKey(250);
  const crossings = (fn: () => unknown): string => {
    calls.clear();
    fn();
    return [...calls].map(([name, n]) => n === 1 ? name : `${name} ${n} times`).join(' ');
  };
  t.equal(crossings(() => items.lookup(lock, 16, 1, 12, 1, 0, 0)), 'itemLookup');
  t.equal(crossings(() => { items.touch(lock, 16, 1, 12, 1, 0, 0); }), 'itemTouch');
  t.equal(crossings(() => { items.create(lock, 16, 1, 12, 1, 0, 0, 8); }), 'itemCreate');
  t.equal(crossings(() => { items.update(lock, 16, 1, 12, 1, 0, 0, 9); }), 'itemUpdate');
  t.equal(crossings(() => items.next(lock, 16, 1, 12, 0, 0, 0, 50)), 'itemNext');
  t.equal(crossings(() => items.found.second + items.found.third), '');
  t.equal(crossings(() => { items.delete(lock, 16, 1, 12, 1, 0, 0); }), 'itemDelete');
  t.equal(crossings(() => { items.createForce(blind, lock, 16, 1, 12, 200, 0, 0); }),
    'itemCreateForce');
  t.equal(crossings(() => { items.deleteForceWide(blind, lock, wide); }), 'itemDeleteForceKey');
  t.equal(crossings(() => { items.createEntry(whole, whole, 1024, 1030, 4, 2, 3); }),
    'itemCreateEntry', 'three items in one crossing');
  t.equal(crossings(() => items.lookupName(whole, 1024, 3)), 'itemLookupName');
  t.equal(crossings(() => { items.deleteEntry(whole, whole, 1024, 1030, 2, 3); }),
    'itemDeleteEntry');
  t.end();
});
