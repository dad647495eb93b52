/**
 * Values on the command line: numbers as C reads them, sizes, quorum slots.
 *
 * Spec: cli.md 1.2, mkfs.md 1.
 */
import { QUORUM_MAX_SLOTS } from '../core/format.js';
import { checkSlots } from '../disk/quorum_slots.js';
import type { SlotConfig } from '../disk/quorum_slots.js';
import { asScoutfsError } from '../observe/errors.js';
import { UsageError } from './command.js';

const U64_SPAN = 1n << 64n;
const SIZE_UNITS = 'KMGTP';
const ADDR_CHARS_MAX = 45;
const PORT_MAX = 65535;
const SLOT_PARTS = 3;

interface Prefix {
  value: bigint;
  /** What follows the number. */
  rest: string;
}

/** Number at the start of `text` by C's rules: 0x hexadecimal, 0 octal; or null. */
function numberPrefix(text: string): Prefix | null {
  const m = /^[ \t]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(.*)$/s.exec(text);
  const [, sign, digits, rest] = m ?? [];
  if (digits === undefined || rest === undefined) return null;
  const value = /^0[0-7]+$/.test(digits) ? BigInt(`0o${digits.slice(1)}`) : BigInt(digits);
  return { value: sign === '-' ? -value : value, rest };
}

/** An unsigned 64-bit number; -1 wraps to 2^64 - 1. @throws UsageError */
export function parseU64(text: string): bigint {
  const p = numberPrefix(text);
  if (p?.rest !== '' || p.value >= U64_SPAN || p.value <= -U64_SPAN) {
    throw new UsageError(`invalid 64bit value: '${text}'`);
  }
  return BigInt.asUintN(64, p.value);
}

/** A u64 that has to be an exact count. @throws UsageError */
export function parseCount(text: string): number {
  const n = parseU64(text);
  if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw new UsageError(`value too big: '${text}'`);
  return Number(n);
}

/** A number in a range. @throws UsageError naming it as `what` */
export function parseInRange(text: string, what: string, min: number, max: number): number {
  const n = parseU64(text);
  if (n < BigInt(min) || n > BigInt(max)) {
    throw new UsageError(`${what} '${text}' must be between ${min} and ${max}`);
  }
  return Number(n);
}

/**
 * A size in bytes with an optional unit K M G T P. Nothing may follow the unit
 * (upstream ignores it, which makes 10Gx and 1KB surprises). @throws UsageError
 */
export function parseSize(text: string): number {
  const p = numberPrefix(text);
  if (p === null || p.value < 0n) throw new UsageError(`invalid 64bit value: '${text}'`);
  const unit = p.rest === '' ? 0 : SIZE_UNITS.indexOf(p.rest) + 1;
  if (p.rest !== '' && (unit === 0 || p.rest.length !== 1)) {
    throw new UsageError(`unknown suffix: '${p.rest}'`);
  }
  const bytes = p.value << BigInt(10 * unit);
  if (bytes >= U64_SPAN || bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new UsageError(`size too big: '${text}'`);
  }
  return Number(bytes);
}

/** An IPv4 address as inet_aton(3) reads it (`127.1`, `0x7f000001`), or null. */
export function parseInet(text: string): number | null {
  const parts = text.split('.');
  if (parts.length > 4 || text.length > ADDR_CHARS_MAX) return null;
  let addr = 0n;
  for (const [i, part] of parts.entries()) {
    const p = /^[0-9]/.test(part) ? numberPrefix(part) : null;
    if (p?.rest !== '') return null;
    // The last part fills the bytes that are left.
    const bits = i === parts.length - 1 ? BigInt(8 * (4 - i)) : 8n;
    if (p.value >> bits !== 0n) return null;
    addr = (addr << bits) | p.value;
  }
  return Number(addr);
}

/** `NR,ADDR,PORT`. @throws UsageError */
export function parseSlot(text: string): SlotConfig {
  const refuse = (why: string): never => {
    throw new UsageError(`invalid quorum slot '${text}': ${why}`);
  };
  const [nrText, addrText, portText, ...more] = text.split(',');
  if (nrText === undefined || addrText === undefined || portText === undefined ||
      more.length > 0) {
    return refuse(`it must be ${SLOT_PARTS} values: NR,ADDR,PORT`);
  }
  const nr = numberPrefix(nrText);
  if (nr?.rest !== '' || nr.value < 0n || nr.value >= BigInt(QUORUM_MAX_SLOTS)) {
    return refuse(`the slot number must be between 0 and ${QUORUM_MAX_SLOTS - 1}`);
  }
  const addr = parseInet(addrText);
  if (addr === null) return refuse(`'${addrText}' is not a numeric IPv4 address`);
  if (addr === 0 || addr === 0xffffffff) return refuse(`${addrText} is no address of a host`);
  const port = numberPrefix(portText);
  if (port?.rest !== '' || port.value < 1n || port.value > BigInt(PORT_MAX)) {
    return refuse(`the port must be between 1 and ${PORT_MAX}`);
  }
  return { nr: Number(nr.value), addr, port: Number(port.value) };
}

/** All values of `-Q`, at least one, checked among each other. @throws UsageError */
export function parseSlots(texts: readonly string[]): SlotConfig[] {
  const slots = texts.map(parseSlot);
  try {
    checkSlots(slots);
  } catch (e) {
    throw new UsageError(asScoutfsError(e).message);
  }
  return slots;
}
