/**
 * Damages a volume as a seed says, and makes every checksum again, so that readers
 * believe what they read.
 *
 * Three layers: single fields of a structure as it lies there (counts, offsets, links of
 * AVL trees); whole items, with the block around them laid out soundly again, which gets
 * past the structure checks and reaches whoever uses the item; and blocks, which are torn,
 * zeroed, replaced by older ones, or referred to from where they do not belong.
 */
import { BlockRef } from '../../host/core/format.js';
import type { Key } from '../../host/core/format.js';
import { viewOf } from '../lib/damage.js';
import type { Item, Victim } from '../lib/damage.js';
import { nameHash } from '../lib/rich.js';
import { sameKey } from './places.js';
import type { LiveItem, Place, VolumeMap } from './places.js';
import { nasty, pick, random, readNumber, writeNumber } from './values.js';
import type { Below } from './values.js';

const SMALL_BYTES = 4096;
const LARGE_BYTES = 65536;
const VALUE_BYTES_MAX = 896;
const DIRENT_BYTES = 32;
const KEY_OFF = 8;
const KEY_BYTES = 32;

type Damage = (m: Mutator) => string;

/** How likely each kind of damage is. */
const DAMAGES: readonly [weight: number, Damage][] = [
  [24, (m) => m.field()], [6, (m) => m.counter()], [4, (m) => m.swapStructures()],
  [6, (m) => m.graft()], [2, (m) => m.swapRefs()],
  [5, (m) => m.copyKey()],
  [22, (m) => m.item()], [6, (m) => m.name()], [6, (m) => m.target()], [4, (m) => m.extent()],
  [3, (m) => m.header()], [3, (m) => m.wholeBlock()], [2, (m) => m.unsealed()],
];
const TOTAL_WEIGHT = DAMAGES.reduce((n, [w]) => n + w, 0);
/** How many places are damaged in one volume. */
const COUNTS = [1, 1, 1, 1, 1, 1, 2, 2, 3, 8] as const;

/** Damages the volume. @returns what was done, a line for each place */
export function damageVolume(v: Victim, map: VolumeMap, below: Below): string[] {
  const m = new Mutator(v, map, below);
  const lines: string[] = [];
  for (let n = pick(below, COUNTS); n > 0; n--) {
    let at = below(TOTAL_WEIGHT);
    const found = DAMAGES.find(([w]) => (at -= w) < 0);
    try {
      if (found !== undefined) lines.push(found[1](m));
    } catch (e) {
      // An earlier damage may have made the block unreadable for the editor.
      if (!(e instanceof Error)) throw e;
      lines.push(`(not possible: ${e.message})`);
    }
  }
  return lines;
}

class Mutator {
  constructor(private readonly v: Victim, private readonly map: VolumeMap,
    private readonly below: Below) {}

  private placeOf(kind: string): Place {
    return pick(this.below, this.map.places.get(kind) ?? []);
  }

  private place(): Place {
    return this.placeOf(pick(this.below, this.map.kinds));
  }

  private edit(p: Pick<Place, 'unit' | 'blkno'> & { dev?: Place['dev'] },
    fn: (bytes: Uint8Array, v: DataView) => void): void {
    if (p.unit === 'small') this.v.editSmall(p.dev ?? 'meta', p.blkno, (v, b) => { fn(b, v); });
    else this.v.editBlock(p.blkno, (v, b) => { fn(b, v); });
  }

  private item1(): LiveItem {
    return pick(this.below, this.map.itemKinds.get(
      pick(this.below, [...this.map.itemKinds.keys()])) ?? []);
  }

  private num(bits: number, old: bigint): bigint {
    return nasty(this.below, bits, old, this.map);
  }

  /** One field of one structure. */
  field(p = this.place()): string {
    if (p.fields.length === 0) return `${p.kind}: no fields`;
    const f = pick(this.below, p.fields);
    let text = '';
    this.edit(p, (bytes) => {
      const old = readNumber(bytes, p.off + f.off, f.len);
      const now = this.num(f.len * 8, old);
      writeNumber(bytes, p.off + f.off, f.len, now);
      text = `${p.kind} ${p.dev} ${p.blkno}+${p.off}: ${f.name} ${old} -> ${now}`;
    });
    return text;
  }

  /** A field of what leads everywhere else. */
  counter(): string {
    return this.field(this.placeOf(pick(this.below, ['super', 'super', 'super', 'quorum',
      ...this.map.kinds.filter((k) => /log trees|alloc list|client|compaction/.test(k))])));
  }

  /** The bytes of two structures of one kind. */
  swapStructures(): string {
    const a = this.place();
    const b = this.placeOf(a.kind);
    const size = Math.min(a.size, b.size);
    const read = (p: Place): Uint8Array => {
      let out = new Uint8Array(0);
      this.edit(p, (bytes) => { out = bytes.slice(p.off, p.off + size); });
      return out;
    };
    const [x, y] = [read(a), read(b)];
    this.edit(a, (bytes) => { bytes.set(y, a.off); });
    this.edit(b, (bytes) => { bytes.set(x, b.off); });
    return `${a.kind}: ${a.blkno}+${a.off} and ${b.blkno}+${b.off} swapped`;
  }

  /** A reference to a sound block that does not belong there. */
  graft(): string {
    const at = pick(this.below, this.map.refs);
    const to = pick(this.below, this.map.blocks);
    this.edit(at, (_, v) => { BlockRef.write(v, at.off, { blkno: to.blkno, seq: to.seq }); });
    return `the reference at ${at.blkno}+${at.off} leads to ${to.kind} ${to.blkno}`;
  }

  swapRefs(): string {
    const a = pick(this.below, this.map.refs);
    const b = pick(this.below, this.map.refs);
    const read = (at: typeof a): Uint8Array => {
      let out = new Uint8Array(0);
      this.edit(at, (bytes) => { out = bytes.slice(at.off, at.off + BlockRef.size); });
      return out;
    };
    const [x, y] = [read(a), read(b)];
    this.edit(a, (bytes) => { bytes.set(y, a.off); });
    this.edit(b, (bytes) => { bytes.set(x, b.off); });
    return `the references at ${a.blkno}+${a.off} and ${b.blkno}+${b.off} are swapped`;
  }

  /** The key of another item, so that keys are out of order or twice there. */
  copyKey(): string {
    const kinds = this.map.kinds.filter((k) => k.endsWith(' item'));
    const a = this.placeOf(pick(this.below, kinds));
    const near = (this.map.places.get(a.kind) ?? []).filter((p) => p.blkno === a.blkno);
    const b = pick(this.below, near);
    this.edit(a, (bytes) => {
      bytes.copyWithin(a.off + KEY_OFF, b.off + KEY_OFF, b.off + KEY_OFF + KEY_BYTES);
    });
    return `${a.kind} ${a.blkno}+${a.off} has the key of +${b.off}`;
  }

  /** An item changed, gone, or there twice, in a block that is sound. */
  item(): string {
    const live = this.item1();
    const ways = ['gone', 'key', 'copy', 'length', 'flags', 'seq', 'value', 'value', 'value'];
    const way = pick(this.below, ways);
    let text = '';
    this.editItem(live, (i) => {
      const made = this.changed(live, i, way);
      text = made.text;
      return made.items;
    });
    return `${live.kind} item in ${live.blkno} ${keyText(live.key)}: ${text}`;
  }

  private changed(live: LiveItem, i: Item, way: string): { items: Item[]; text: string } {
    switch (way) {
      case 'gone': return { items: [], text: 'removed' };
      case 'key': {
        const key = this.otherKey(i.key);
        return { items: [{ ...i, key }], text: `becomes ${keyText(key)}` };
      }
      case 'copy': {
        const key = this.otherKey(i.key);
        return { items: [i, { ...i, key }], text: `also as ${keyText(key)}` };
      }
      case 'length': {
        const old = i.value.length;
        const len = pick(this.below, [0, 1, old - 1, old + 1, old + 8, VALUE_BYTES_MAX]);
        const value = new Uint8Array(Math.min(VALUE_BYTES_MAX, Math.max(0, len)));
        value.set(i.value.subarray(0, value.length));
        return { items: [{ ...i, value }], text: `length ${old} -> ${value.length}` };
      }
      case 'flags': {
        const flags = pick(this.below, [1, 2, 255]);
        return { items: [{ ...i, flags }], text: `flags ${flags}` };
      }
      case 'seq': {
        const seq = this.num(64, i.seq);
        return { items: [{ ...i, seq }], text: `seq ${i.seq} -> ${seq}` };
      }
      default: return this.changedValue(live, i);
    }
  }

  private changedValue(live: LiveItem, i: Item): { items: Item[]; text: string } {
    const p = (this.map.places.get(live.kind) ?? []).find((x) => x.size === i.value.length);
    if (p === undefined || p.fields.length === 0) return { items: [], text: 'removed' };
    const f = pick(this.below, p.fields);
    const value = i.value.slice();
    const old = readNumber(value, f.off, f.len);
    const now = this.num(f.len * 8, old);
    writeNumber(value, f.off, f.len, now);
    return { items: [{ ...i, value }], text: `${f.name} ${old} -> ${now}` };
  }

  private otherKey(k: Key): Key {
    const key = { ...k };
    switch (this.below(6)) {
      case 0: key.first = this.num(64, k.first); break;
      case 1: key.second = this.num(64, k.second); break;
      case 2: key.third = this.num(64, k.third); break;
      case 3: key.type = Number(this.num(8, BigInt(k.type))); break;
      case 4: key.zone = Number(this.num(8, BigInt(k.zone))); break;
      default: key.fourth = Number(this.num(8, BigInt(k.fourth)));
    }
    return key;
  }

  private editItem(live: Pick<LiveItem, 'blkno' | 'key'>, fn: (i: Item) => Item[]): void {
    this.v.editNode(live.blkno, (items) =>
      items.flatMap((i) => (sameKey(i.key, live.key) ? fn(i) : [i])));
  }

  /** The three items of a link; all of them or one, so that they agree or do not. */
  private link(): LiveItem[] {
    const kinds = [...this.map.itemKinds.keys()].filter((k) => /dirent|readdir|backref/.test(k));
    const one = pick(this.below, this.map.itemKinds.get(pick(this.below, kinds)) ?? []);
    if (this.below(3) === 0) return [one];
    const { dir, pos } = linkOf(one.key);
    return kinds.flatMap((k) => this.map.itemKinds.get(k) ?? []).filter((i) => {
      const l = linkOf(i.key);
      return l.dir === dir && l.pos === pos;
    });
  }

  /** A name that no caller could have given. */
  name(): string {
    const name = pick(this.below, ['', '.', '..', 'a/b', '/', 'a\0b', '\0', 'x'.repeat(256),
      'y'.repeat(300), 'z'.repeat(255), '../../etc', '\xff\xfe', 'x'.repeat(864)]);
    const links = this.link();
    for (const live of links) {
      this.editItem(live, (i) => {
        const value = Buffer.concat([i.value.subarray(0, DIRENT_BYTES),
          Buffer.from(name, 'latin1')]);
        const hash = nameHash(name);
        viewOf(value).setBigUint64(8, hash, true);
        return [{ ...i, value, key: live.key.type === 12 ? { ...i.key, second: hash } : i.key }];
      });
    }
    return `${links.map((l) => keyText(l.key)).join(', ')}: the name is ${JSON.stringify(name)}`;
  }

  /** Links to nowhere, to themselves, to what is above them. */
  target(): string {
    const links = this.link();
    const { dir } = linkOf(links[0]?.key ?? { first: 0n, second: 0n, third: 0n, type: 0 });
    const ino = pick(this.below, [0n, 1n, 2n, dir, dir, this.num(64, dir),
      pick(this.below, this.map.inos), pick(this.below, this.map.inos)]);
    for (const live of links) {
      this.editItem(live, (i) => {
        const value = i.value.slice();
        if (value.length >= 8) viewOf(value).setBigUint64(0, ino, true);
        if (value.length >= DIRENT_BYTES && this.below(2) === 0) value[24] = 2;
        return [{ ...i, value, key: live.key.type === 20 ? { ...i.key, first: ino } : i.key }];
      });
    }
    return `${links.map((l) => keyText(l.key)).join(', ')}: leads to ${ino}`;
  }

  /** File extents and free extents that overlap, leave the device, or are endless. */
  extent(): string {
    const kinds = [...this.map.itemKinds.keys()].filter((k) => /extent|free by/.test(k));
    const live = pick(this.below, this.map.itemKinds.get(pick(this.below, kinds)) ?? []);
    let text = '';
    this.editItem(live, (i) => {
      const key = { ...i.key };
      const value = i.value.slice();
      if (key.zone === 16) {
        const way = this.below(3);
        if (way === 0) key.third = this.num(64, key.third);
        else if (way === 1) key.second = this.num(64, key.second);
        else if (value.length >= 8) {
          const v = viewOf(value);
          v.setBigUint64(0, this.num(64, v.getBigUint64(0, true)), true);
        }
      } else if (key.zone === 36) {
        if (this.below(2) === 0) key.first = this.num(64, key.first);
        else key.second = this.num(64, key.second);
      } else if (this.below(2) === 0) {
        key.second = this.num(64, key.second);
      } else {
        key.third = this.num(64, key.third);
      }
      text = keyText(key);
      return this.below(2) === 0 ? [{ ...i, key, value }] : [i, { ...i, key, value }];
    });
    return `${live.kind} ${keyText(live.key)} in ${live.blkno}: now ${text}`;
  }

  /** A header that is not the one expected, with the reference to it made again. */
  header(): string {
    const b = pick(this.below, this.map.blocks);
    const [name, off, len] = pick(this.below, [['magic', 4, 4], ['fsid', 8, 8], ['seq', 16, 8],
      ['blkno', 24, 8]] as const);
    let now = 0n;
    this.v.editBlock(b.blkno, (_, bytes) => {
      now = this.num(len * 8, readNumber(bytes, off, len));
      writeNumber(bytes, off, len, now);
    });
    if (name === 'seq') this.edit(b.from, (bytes) => { writeNumber(bytes, b.from.off + 8, 8, now); });
    return `${b.kind} ${b.blkno}: ${name} ${now}`;
  }

  /** A block with other contents behind its own header. */
  wholeBlock(): string {
    const b = pick(this.below, this.map.blocks);
    const other = pick(this.below, this.map.blocks);
    const way = pick(this.below, ['zeros', 'other', 'torn', 'noise', 'ones', 'shifted']);
    const source = this.v.readBlock(other.blkno);
    this.v.editBlock(b.blkno, (_, bytes) => {
      if (way === 'zeros') bytes.fill(0, 32);
      else if (way === 'ones') bytes.fill(255, 32);
      else if (way === 'other') bytes.set(source.subarray(32), 32);
      else if (way === 'shifted') bytes.copyWithin(48, 32);
      else {
        const at = SMALL_BYTES * this.below(LARGE_BYTES / SMALL_BYTES);
        const from = Math.max(32, at);
        if (way === 'torn') bytes.set(source.subarray(from, at + SMALL_BYTES), from);
        else for (let i = from; i < at + 64; i++) bytes[i] = this.below(256);
      }
    });
    return `${b.kind} ${b.blkno}: ${way} (${other.kind} ${other.blkno})`;
  }

  /** Damage that the checksum tells. */
  unsealed(): string {
    const b = pick(this.below, this.map.blocks);
    const at = this.below(LARGE_BYTES);
    this.v.editBlock(b.blkno, (_, bytes) => {
      bytes[at] = (bytes[at] ?? 0) ^ Number(random(this.below, 8) | 1n);
    }, false);
    return `${b.kind} ${b.blkno}: byte ${at}, the checksum does not match`;
  }
}

/** The directory and position of a dirent, readdir or backref item. */
function linkOf(k: Pick<Key, 'first' | 'second' | 'third' | 'type'>): { dir: bigint; pos: bigint } {
  if (k.type === 12) return { dir: k.first, pos: k.third };
  if (k.type === 16) return { dir: k.first, pos: k.second };
  return { dir: k.second, pos: k.third };
}

function keyText(k: Key): string {
  return `${k.zone}.${k.first}.${k.type}.${k.second}.${k.third}.${k.fourth}`;
}
