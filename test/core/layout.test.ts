/**
 * The offsets and constants of assembly/format.ts against the layouts and constants
 * that the vectors were measured with, and the map of the core's low memory.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { repoDir, skipWithoutSpec, vectors } from '../lib/shared.js';

interface Struct { size: number; fields: { name: string; offset: number; size: number }[] }
interface FormatVectors {
  structs: Record<string, Struct>;
  constants: Record<string, { dec: string }>;
}
const skip = skipWithoutSpec();
const fv = (skip === false ? vectors('format-vectors.json') : {}) as FormatVectors;
const cv = (skip === false ? vectors('core-vectors.json') : {}) as {
  constants: Record<string, number> };

const text = (file: string): string => readFileSync(join(repoDir, 'assembly', file), 'utf8');

/** Every `export const NAME: type = literal;` of a file. */
function constantsOf(file: string): Map<string, number> {
  return new Map([...text(file).matchAll(/const (\w+): \w+ = (-?(?:0x[\da-f]+|\d+));/g)]
    .map((m) => [m[1] ?? '', Number(m[2])]));
}

const HDR = 'scoutfs_block_header';
const BT = 'scoutfs_btree_block';
const ITEM = 'scoutfs_btree_item';
const LH = 'scoutfs_alloc_list_head';
const LB = 'scoutfs_alloc_list_block';
const AR = 'scoutfs_alloc_root';
const SE = 'scoutfs_srch_entry';
const SF = 'scoutfs_srch_file';
const SB = 'scoutfs_srch_block';

/** Offsets: constant, structure, field. */
const OFFSETS: [name: string, struct: string, field: string][] = [
  ['HDR_CRC', HDR, 'crc'], ['HDR_MAGIC', HDR, 'magic'], ['HDR_FSID', HDR, 'fsid'],
  ['HDR_SEQ', HDR, 'seq'], ['HDR_BLKNO', HDR, 'blkno'],
  ['REF_BLKNO', 'scoutfs_block_ref', 'blkno'], ['REF_SEQ', 'scoutfs_block_ref', 'seq'],
  ['ROOT_HEIGHT', 'scoutfs_btree_root', 'height'],
  ['BT_AVL_ROOT', BT, 'item_root'], ['BT_NR_ITEMS', BT, 'nr_items'],
  ['BT_TOTAL_BYTES', BT, 'total_item_bytes'], ['BT_MID_FREE', BT, 'mid_free_len'],
  ['BT_LEVEL', BT, 'level'],
  ['ITEM_KEY', ITEM, 'key'], ['ITEM_SEQ', ITEM, 'seq'], ['ITEM_VAL_OFF', ITEM, 'val_off'],
  ['ITEM_VAL_LEN', ITEM, 'val_len'], ['ITEM_FLAGS', ITEM, 'flags'],
  ['LH_REF', LH, 'ref'], ['LH_TOTAL', LH, 'total_nr'], ['LH_FIRST', LH, 'first_nr'],
  ['LH_FLAGS', LH, 'flags'],
  ['LB_NEXT', LB, 'next'], ['LB_START', LB, 'start'], ['LB_NR', LB, 'nr'],
  ['AR_TOTAL', AR, 'total_len'], ['AR_FLAGS', AR, 'flags'], ['AR_ROOT', AR, 'root'],
  ['SE_INO', SE, 'ino'], ['SE_ID', SE, 'id'],
  ['SF_FIRST', SF, 'first'], ['SF_LAST', SF, 'last'], ['SF_REF', SF, 'ref'],
  ['SF_BLOCKS', SF, 'blocks'], ['SF_ENTRIES', SF, 'entries'], ['SF_HEIGHT', SF, 'height'],
  ['SP_REFS', 'scoutfs_srch_parent', 'refs'],
  ['SB_FIRST', SB, 'first'], ['SB_LAST', SB, 'last'], ['SB_TAIL', SB, 'tail'],
  ['SB_NR', SB, 'entry_nr'], ['SB_BYTES', SB, 'entry_bytes'], ['SB_ENTRIES', SB, 'entries'],
];

const SIZES: [name: string, struct: string][] = [
  ['REF_BYTES', 'scoutfs_block_ref'], ['ROOT_BYTES', 'scoutfs_btree_root'], ['BT_ITEMS', BT],
  ['ITEM_BYTES', ITEM], ['LH_BYTES', LH], ['LB_BLKNOS', LB], ['AR_BYTES', AR],
  ['KEY_BYTES', 'scoutfs_key'], ['SE_BYTES', SE], ['SF_FILE_BYTES', SF],
];

const CONSTANTS: [name: string, upstream: string][] = [
  ['BLOCK_BYTES', 'SCOUTFS_BLOCK_LG_SIZE'], ['BLOCK_SHIFT', 'SCOUTFS_BLOCK_LG_SHIFT'],
  ['META_START_BLKNO', 'SCOUTFS_META_DEV_START_BLKNO'],
  ['MAGIC_BTREE', 'SCOUTFS_BLOCK_MAGIC_BTREE'], ['MAGIC_BLOOM', 'SCOUTFS_BLOCK_MAGIC_BLOOM'],
  ['MAGIC_SRCH_BLOCK', 'SCOUTFS_BLOCK_MAGIC_SRCH_BLOCK'],
  ['MAGIC_SRCH_PARENT', 'SCOUTFS_BLOCK_MAGIC_SRCH_PARENT'],
  ['MAGIC_ALLOC_LIST', 'SCOUTFS_BLOCK_MAGIC_ALLOC_LIST'],
  ['ITEM_FLAG_DELETION', 'SCOUTFS_ITEM_FLAG_DELETION'],
  ['LEAF_HASH_NR', 'SCOUTFS_BTREE_LEAF_ITEM_HASH_NR'], ['MAX_VAL_LEN', 'SCOUTFS_BTREE_MAX_VAL_LEN'],
  ['MAX_HEIGHT', 'SCOUTFS_BTREE_MAX_HEIGHT'], ['LIST_MAX', 'SCOUTFS_ALLOC_LIST_MAX_BLOCKS'],
  ['ZONE_FREE_BLKNO', 'SCOUTFS_FREE_EXTENT_BLKNO_ZONE'],
  ['ZONE_FREE_ORDER', 'SCOUTFS_FREE_EXTENT_ORDER_ZONE'],
  ['SRCH_PARENT_REFS', 'SCOUTFS_SRCH_PARENT_REFS'],
  ['SRCH_SAFE_BYTES', 'SCOUTFS_SRCH_BLOCK_SAFE_BYTES'],
  ['SRCH_ENTRY_MAX_BYTES', 'SCOUTFS_SRCH_ENTRY_MAX_BYTES'],
];

t.test('offsets and sizes are those of the structures', { skip }, (t) => {
  const ours = constantsOf('format.ts');
  for (const [name, struct, field] of OFFSETS) {
    const want = fv.structs[struct]?.fields.find((f) => f.name === field)?.offset;
    t.ok(want !== undefined && ours.get(name) === want, `${name}: ${ours.get(name) ?? '-'}`);
  }
  for (const [name, struct] of SIZES) {
    t.ok(ours.has(name) && ours.get(name) === fv.structs[struct]?.size, name);
  }
  for (const [name, upstream] of CONSTANTS) {
    t.ok(ours.has(name) && ours.get(name) === Number(fv.constants[upstream]?.dec), name);
  }
  const header = fv.structs[HDR]?.size ?? 0;
  t.equal(fv.structs[BT]?.fields.find((f) => f.name === 'hdr')?.size, header);
  t.end();
});

t.test('every constant of the format is compared or derived', { skip }, (t) => {
  const ours = constantsOf('format.ts');
  const derived: [name: string, want: number | undefined][] = [
    ['LEAF_VAL_END', 65536 - (cv.constants['leaf_item_hash_bytes'] ?? 0)],
    ['JOIN_LOW_BYTES', cv.constants['join_low_watermark']],
    ['BLOCK_BODY_BYTES', cv.constants['parent_empty_mid_free']],
    ['SPLIT_FULL_PERCENT', 80],
    ['NEED_BLOCK', -1000],
  ];
  for (const [name, want] of derived) t.equal(ours.get(name), want, name);
  t.equal((ours.get('LEAF_VAL_END') ?? 0) - (ours.get('BT_ITEMS') ?? 0),
    cv.constants['leaf_empty_mid_free']);
  const known = new Set([...OFFSETS, ...SIZES, ...CONSTANTS, ...derived].map((x) => x[0]));
  t.strictSame([...ours.keys()].filter((n) => !known.has(n) && !/^E[A-Z0-9]+$/.test(n)), []);
  t.end();
});

t.test('structure sizes of the core vectors', { skip }, (t) => {
  for (const [name, size] of Object.entries(cv.constants)) {
    const struct = /^sizeof_(.*)$/.exec(name)?.[1];
    if (struct === undefined) continue;
    t.equal((fv.structs[`scoutfs_${struct}`] ?? fv.structs[`scoutfs_${struct}_node`])?.size, size,
      name);
  }
  const blocks = readFileSync(join(repoDir, 'host/mount/data_extents.ts'), 'utf8');
  t.match(blocks, `LARGE_ALLOC_BLOCKS = ${cv.constants['data_lg_thresh'] ?? 0};`);
  t.match(blocks, `DATA_START_BLKNO = ${cv.constants['data_dev_start_blkno'] ?? 0};`);
  t.end();
});

t.test('errno values are those of the host', (t) => {
  const errors = readFileSync(join(repoDir, 'host/observe/errors.ts'), 'utf8');
  for (const [name, value] of constantsOf('format.ts')) {
    if (!/^E[A-Z0-9]+$/.test(name)) continue;
    t.match(errors, new RegExp(`\\b${name}: ${value}\\b`), name);
  }
  t.end();
});

t.test('windows lie apart and below static data', (t) => {
  const layout = constantsOf('layout.ts');
  const regions = [
    { at: layout.get('NEED_WINDOW') ?? 0, len: (layout.get('NEED_MAX') ?? 0) * 16 },
    { at: layout.get('LIST_WINDOW') ?? 0, len: layout.get('LIST_WINDOW_BYTES') ?? 0 },
    { at: layout.get('ARG_WINDOW') ?? 0, len: layout.get('ARG_WINDOW_BYTES') ?? 0 },
  ];
  const config = readFileSync(join(repoDir, 'asconfig.json'), 'utf8');
  const base = /"memoryBase": (\d+)/.exec(config)?.[1];
  let end = 32768;
  for (const r of regions) {
    t.ok(r.len > 0 && r.at >= end, `a window at ${r.at}`);
    end = r.at + r.len;
  }
  t.ok(end <= Number(base), 'below static data');
  t.end();
});

t.test('ids of broken invariants are used once', (t) => {
  const seen = new Map<string, string>();
  for (const file of readdirSync(join(repoDir, 'assembly')).filter((f) => f.endsWith('.ts'))) {
    for (const m of text(file).matchAll(/\bcheck\([^;]*?, (\d+)\);|\bC_\w+: i32 = (\d+);/g)) {
      const id = m[1] ?? m[2] ?? '';
      t.notOk(seen.has(id), `id ${id} in ${file}`);
      seen.set(id, file);
    }
  }
  t.ok(seen.size > 10);
  t.end();
});
