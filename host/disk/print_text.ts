/**
 * Small texts of the dump: numbers in hexadecimal, references, list heads, key
 * lines. All take values as they are stored, so that damaged ones can be shown.
 */
import type {
  AllocListHead, AllocRoot, BlockRef, BtreeRoot, SrchEntry, SrchFile,
} from '../core/format.js';
import { blockCrc, viewOf } from './block.js';

/** Lines of tokens are broken before this column. */
const WRAP_COLUMN = 78;

export function hex16(n: bigint): string {
  return n.toString(16).padStart(16, '0');
}

export function hex8(n: number): string {
  return n.toString(16).padStart(8, '0');
}

/** Raw 64-bit word. */
export function word(v: DataView, o: number): bigint {
  return v.getBigUint64(o, true);
}

/** A checksum, and the right one beside it when it is wrong. */
export function crcText(block: Uint8Array): string {
  const stored = viewOf(block).getUint32(0, true);
  const computed = blockCrc(block);
  return stored === computed ? hex8(stored) : `${hex8(stored)} (computed ${hex8(computed)})`;
}

/** The header of super, quorum, list and srch blocks. */
export function headerText(block: Uint8Array): string {
  const v = viewOf(block);
  return `hdr: crc ${crcText(block)} magic ${hex8(v.getUint32(4, true))} ` +
    `fsid ${hex16(word(v, 8))} blkno ${word(v, 24)} seq ${word(v, 16)}`;
}

export function refText(r: BlockRef): string {
  return `blkno ${r.blkno} seq ${r.seq}`;
}

/** A tree root as the super block part shows it. */
export function rootText(r: BtreeRoot): string {
  return `blkno ${r.ref.blkno} seq ${hex16(r.ref.seq)} height ${r.height}`;
}

export function allocRootText(r: AllocRoot): string {
  return `${refText(r.root.ref)} height ${r.root.height} total_len ${r.totalLen} ` +
    `flags 0x${r.flags.toString(16)}`;
}

export function listHeadText(h: AllocListHead): string {
  return `${refText(h.ref)} total_nr ${h.totalNr} first_nr ${h.firstNr} ` +
    `flags 0x${h.flags.toString(16)}`;
}

export function entryText(e: SrchEntry): string {
  return `${hex16(e.hash)}.${e.ino}.${e.id}`;
}

export function srchFileText(f: SrchFile): string {
  return `f ${entryText(f.first)} l ${entryText(f.last)} blks ${f.blocks} ents ${f.entries} ` +
    `hei ${f.height} blkno ${f.ref.blkno} seq ${hex16(f.ref.seq)}`;
}

/** Bytes of a name or target; what cannot be shown in a line is a dot. */
export function printable(bytes: Uint8Array): string {
  let text = '';
  for (const b of bytes) text += b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '.';
  return text;
}

/**
 * Tokens behind a heading, broken into lines, without a final line feed. A token
 * that begins a line is not counted towards its width: upstream's dump has lines of
 * that shape.
 */
export function tokenLines(heading: string, tokens: Iterable<string>, indent: number):
{ text: string; counted: boolean } {
  const lines: string[] = [];
  let line = heading;
  let column = heading.length;
  for (const token of tokens) {
    if (column + token.length + 1 < WRAP_COLUMN) {
      column += token.length + 1;
    } else {
      lines.push(line);
      line = ' '.repeat(indent);
      column = indent;
    }
    line += `${token} `;
  }
  return { text: [...lines, line].join('\n'), counted: lines.length === 0 || column > indent };
}
