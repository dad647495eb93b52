/**
 * Keys where they lie: comparing and naming the 32 bytes of a key inside a block
 * without decoding them. (host/core/keys.ts is for keys that are made or changed.)
 *
 *  ╒═════════╤══════════╤═════════╤════════╤══════╤══════╤══════╕
 *  │ first 8 │ second 8 │ third 8 │fourth 1│zone 1│type 1│ pad 5│
 *  ╘═════════╧══════════╧═════════╧════════╧══════╧══════╧══════╛
 *   order: zone, first, type, second, third, fourth
 *
 * 64-bit fields that are compared with counts are read as doubles. Those above
 * 2^53 lose low bits, but are then far beyond any count they are compared with.
 * Spec: format.md 7 and 8.3.
 */
import { FS_ZONE, INODE_INDEX_ZONE, ORPHAN_TYPE, ORPHAN_ZONE } from '../../core/format.js';

export const KEY_BYTES = 32;
const TWO32 = 0x100000000;
const GROUP_MASK = 1023;

/** A key on its own. */
export type KeyView = DataView;

export function newKey(): KeyView {
  return new DataView(new ArrayBuffer(KEY_BYTES));
}

/** The greatest key: every field at its maximum, padding zero. */
export const ONES: KeyView = ((): KeyView => {
  const k = newKey();
  for (let i = 0; i < 27; i++) k.setUint8(i, 0xff);
  return k;
})();

export function copyKey(to: KeyView, from: DataView, off: number): void {
  for (let i = 0; i < KEY_BYTES; i += 4) to.setUint32(i, from.getUint32(off + i, true), true);
}

/** Negative, zero or positive as key a is before, equal to or after key b. */
export function compareKeys(a: DataView, ao: number, b: DataView, bo: number): number {
  const wa = a.getUint32(ao + 24, true);
  const wb = b.getUint32(bo + 24, true);
  return (((wa >>> 8) & 0xff) - ((wb >>> 8) & 0xff))
    || compare64(a, ao, b, bo)
    || (((wa >>> 16) & 0xff) - ((wb >>> 16) & 0xff))
    || compare64(a, ao + 8, b, bo + 8)
    || compare64(a, ao + 16, b, bo + 16)
    || ((wa & 0xff) - (wb & 0xff));
}

function compare64(a: DataView, ao: number, b: DataView, bo: number): number {
  return (a.getUint32(ao + 4, true) - b.getUint32(bo + 4, true))
    || (a.getUint32(ao, true) - b.getUint32(bo, true));
}

/** A 64-bit field as a number, exact up to 2^53. */
export function num(v: DataView, off: number): number {
  return v.getUint32(off, true) + v.getUint32(off + 4, true) * TWO32;
}

/** Stores a non-negative integer below 2^53. */
export function setNum(v: DataView, off: number, n: number): void {
  v.setUint32(off, n % TWO32, true);
  v.setUint32(off + 4, Math.floor(n / TWO32), true);
}

export function isZero64(v: DataView, off: number): boolean {
  return v.getUint32(off, true) === 0 && v.getUint32(off + 4, true) === 0;
}

export function zoneOf(v: DataView, off: number): number {
  return v.getUint8(off + 25);
}

export function typeOf(v: DataView, off: number): number {
  return v.getUint8(off + 26);
}

/** `zone.first.type.second.third.fourth` */
export function keyText(v: DataView, off: number): string {
  return [v.getUint8(off + 25), v.getBigUint64(off, true), v.getUint8(off + 26),
    v.getBigUint64(off + 8, true), v.getBigUint64(off + 16, true), v.getUint8(off + 24)].join('.');
}

/** Fills a key from small fields; the rest is zero. */
export function makeKey(k: KeyView, zone: number, first: number, type: number, second = 0,
  third = 0, fourth = 0): KeyView {
  setNum(k, 0, first);
  setNum(k, 8, second);
  setNum(k, 16, third);
  k.setUint32(24, fourth | (zone << 8) | (type << 16), true);
  k.setUint32(28, 0, true);
  return k;
}

/** Start key of the cluster lock that covers a file system item. Source: format.md 8.3 */
export function lockStart(k: KeyView, v: DataView, off: number): KeyView {
  const zone = zoneOf(v, off);
  makeKey(k, zone, 0, 0);
  if (zone === FS_ZONE) {
    k.setUint32(0, v.getUint32(off, true) & ~GROUP_MASK, true);
    k.setUint32(4, v.getUint32(off + 4, true), true);
  } else if (zone === INODE_INDEX_ZONE) {
    k.setUint8(26, typeOf(v, off));
    k.setUint32(8, v.getUint32(off + 8, true) & ~GROUP_MASK, true);
    k.setUint32(12, v.getUint32(off + 12, true), true);
  } else if (zone === ORPHAN_ZONE) {
    k.setUint8(26, ORPHAN_TYPE);
  }
  return k;
}

/** The bytes `off .. off + len - 1` of a view. */
export function bytesAt(v: DataView, off: number, len: number): Uint8Array {
  return new Uint8Array(v.buffer, v.byteOffset + off, len);
}
