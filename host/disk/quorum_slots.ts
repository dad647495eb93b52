/**
 * Quorum slots as a user gives them, and as the super block stores them.
 *
 * Spec: mkfs.md 1, format.md 6.1.
 */
import { AF_IPV4, AF_NONE, QUORUM_MAX_SLOTS } from '../core/format.js';
import type { QuorumSlot } from '../core/format.js';
import { ScoutfsError } from '../observe/errors.js';

export interface SlotConfig {
  /** 0..14 */
  nr: number;
  /** address as a host-order integer */
  addr: number;
  port: number;
}

const PORT_MAX = 65535;
const ADDR_NONE = 0;
const ADDR_BROADCAST = 0xffffffff;

/** Dotted quad of a host-order address. */
export function addrText(addr: number): string {
  return [addr >>> 24, (addr >>> 16) & 0xff, (addr >>> 8) & 0xff, addr & 0xff].join('.');
}

/** @throws BAD_SLOTS (EINVAL) for no slots, numbers out of range, or duplicates */
export function checkSlots(slots: readonly SlotConfig[]): void {
  const refuse = (message: string): never => {
    throw new ScoutfsError('BAD_SLOTS', 'EINVAL', { message });
  };
  if (slots.length === 0) refuse('must provide at least one quorum slot');
  for (const [i, s] of slots.entries()) {
    if (!Number.isInteger(s.nr) || s.nr < 0 || s.nr >= QUORUM_MAX_SLOTS) {
      refuse(`quorum slot ${s.nr} must be between 0 and ${QUORUM_MAX_SLOTS - 1}`);
    }
    if (!Number.isInteger(s.port) || s.port < 1 || s.port > PORT_MAX) {
      refuse(`quorum slot ${s.nr}: port ${s.port} must be between 1 and ${PORT_MAX}`);
    }
    if (s.addr === ADDR_NONE || s.addr === ADDR_BROADCAST) {
      refuse(`quorum slot ${s.nr}: ${addrText(s.addr)} is not a usable address`);
    }
    for (const other of slots.slice(0, i)) {
      if (other.nr === s.nr) refuse(`quorum slot ${s.nr} is given twice`);
      if (other.addr === s.addr && other.port === s.port) {
        refuse(`quorum slots ${other.nr} and ${s.nr} have the same address ` +
          `${addrText(s.addr)}:${s.port}`);
      }
    }
  }
}

/** All 15 slots of the super block, zeros where none is configured. */
export function slotArray(slots: readonly SlotConfig[]): QuorumSlot[] {
  return Array.from({ length: QUORUM_MAX_SLOTS }, (_, nr) => {
    const s = slots.find((c) => c.nr === nr);
    return s === undefined
      ? { addr: { family: AF_NONE, port: 0, addr: 0 } }
      : { addr: { family: AF_IPV4, port: s.port, addr: s.addr } };
  });
}

/** The configured slots of a super block in slot order. */
export function configuredSlots(slots: readonly QuorumSlot[]): SlotConfig[] {
  return slots.flatMap(({ addr }, nr) =>
    addr.family === AF_IPV4 ? [{ nr, addr: addr.addr, port: addr.port }] : []);
}
