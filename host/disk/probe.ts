/**
 * What a device seems to hold already, so that mkfs does not destroy it.
 *
 * A table of the signatures that people are likely to meet: byte strings at fixed
 * places, counted from the start of the device or, for structures that live there,
 * from its end. It is our own and smaller than libblkid's; a device it knows
 * nothing about counts as empty. scoutfs itself is recognised by its super block
 * (super.ts), not here.
 *
 * Spec: mkfs.md 3.
 */
import type { Device } from '../env/device.js';
import { DEVICE_UNIT_BYTES, alignedMemory } from '../env/device.js';

interface Signature {
  what: string;
  /** Byte offsets at which the bytes may be; negative ones count from the end. */
  at: readonly number[];
  /** Latin-1 text. */
  bytes: string;
}

const SECTOR = 512;
const KIB = 1024;

const SIGNATURES: readonly Signature[] = [
  { what: 'an ext2, ext3 or ext4 file system', at: [0x438], bytes: '\x53\xef' },
  { what: 'an XFS file system', at: [0], bytes: 'XFSB' },
  { what: 'a btrfs file system', at: [0x10040], bytes: '_BHRfS_M' },
  { what: 'an NTFS file system', at: [3], bytes: 'NTFS    ' },
  { what: 'an exFAT file system', at: [3], bytes: 'EXFAT   ' },
  { what: 'a FAT file system', at: [0x36], bytes: 'FAT1' },
  { what: 'a FAT file system', at: [0x52], bytes: 'FAT32   ' },
  { what: 'a swap area', at: [0xff6, 0xfff6], bytes: 'SWAPSPACE2' },
  { what: 'a swap area', at: [0xff6, 0xfff6], bytes: 'SWAP-SPACE' },
  { what: 'an LVM physical volume', at: [0, SECTOR, 2 * SECTOR, 3 * SECTOR], bytes: 'LABELONE' },
  { what: 'a LUKS encrypted volume', at: [0], bytes: 'LUKS\xba\xbe' },
  { what: 'a member of a RAID array', at: [0, 4 * KIB], bytes: '\xfc\x4e\x2b\xa9' },
  { what: 'a GFS2 file system', at: [0x10000], bytes: '\x01\x16\x19\x70' },
  { what: 'an F2FS file system', at: [0x400], bytes: '\x10\x20\xf5\xf2' },
  { what: 'a JFS file system', at: [0x8000], bytes: 'JFS1' },
  { what: 'a ReiserFS file system', at: [0x10034], bytes: 'ReIsEr' },
  { what: 'a NILFS2 file system', at: [0x406], bytes: '\x34\x34' },
  { what: 'an HFS+ file system', at: [0x400], bytes: 'H+\x00\x04' },
  { what: 'an APFS container', at: [32], bytes: 'NXSB' },
  { what: 'an OCFS2 file system', at: [0x400, 0x800, 0x1000, 0x2000], bytes: 'OCFSV2' },
  { what: 'an ISO 9660 or UDF file system', at: [0x8001], bytes: 'CD001' },
  { what: 'a UDF file system', at: [0x8001], bytes: 'BEA01' },
  { what: 'a squashfs file system', at: [0], bytes: 'hsqs' },
  { what: 'an EROFS file system', at: [0x400], bytes: '\xe2\xe1\xf5\xe0' },
  { what: 'a bcache or bcachefs device', at: [0x1018],
    bytes: '\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81' },
  { what: 'a ZFS pool member', at: [128 * KIB, 132 * KIB],
    bytes: '\x0c\xb1\xba\x00\x00\x00\x00\x00' },
  { what: 'a Ceph BlueStore device', at: [0], bytes: 'bluestore block device' },
  { what: 'a GPT partition table', at: [SECTOR, 4 * KIB, -SECTOR], bytes: 'EFI PART' },
  // Last, since boot sectors of file systems carry it too.
  { what: 'an MBR partition table or boot sector', at: [510], bytes: '\x55\xaa' },
];

/** Bytes looked at from the start: up to the second ZFS place and its 8 bytes. */
const HEAD_BYTES = 136 * KIB;
/** Bytes looked at from the end, where old RAID versions keep their super block. */
const TAIL_BYTES = 128 * KIB;
const MD_MAGIC = '\xfc\x4e\x2b\xa9';

/** A piece of a device that starts at byte `start`. */
interface Piece {
  start: number;
  bytes: Buffer;
}

async function readPiece(dev: Device, from: number, to: number): Promise<Piece> {
  const start = Math.floor(from / DEVICE_UNIT_BYTES) * DEVICE_UNIT_BYTES;
  const len = Math.floor((to - start) / DEVICE_UNIT_BYTES) * DEVICE_UNIT_BYTES;
  if (len <= 0) return { start, bytes: Buffer.alloc(0) };
  const buf = alignedMemory(len);
  await dev.read(start, buf);
  return { start, bytes: Buffer.from(buf.buffer, buf.byteOffset, len) };
}

function holds(pieces: readonly Piece[], at: number, text: string): boolean {
  const want = Buffer.from(text, 'latin1');
  return pieces.some(({ start, bytes }) => {
    const o = at - start;
    return o >= 0 && o + want.length <= bytes.length &&
      bytes.compare(want, 0, want.length, o, o + want.length) === 0;
  });
}

/** Places from the end where RAID versions 0.90 and 1.0 keep their super block. */
function mdTailPlaces(sizeBytes: number): number[] {
  const v090 = Math.floor(sizeBytes / (64 * KIB)) * 64 * KIB - 64 * KIB;
  const v10 = Math.floor((Math.floor(sizeBytes / SECTOR) - 16) / 8) * 8 * SECTOR;
  return [v090, v10].filter((at) => at > 0);
}

/** What the device seems to hold, as words that follow "contain", or null. */
export async function probeDevice(dev: Device): Promise<string | null> {
  const size = dev.sizeBytes;
  const pieces = [
    await readPiece(dev, 0, Math.min(HEAD_BYTES, size)),
    await readPiece(dev, Math.max(0, size - TAIL_BYTES), size),
  ];
  for (const { what, at, bytes } of SIGNATURES) {
    if (at.some((a) => holds(pieces, a < 0 ? size + a : a, bytes))) return what;
  }
  if (mdTailPlaces(size).some((at) => holds(pieces, at, MD_MAGIC))) {
    return 'a member of a RAID array';
  }
  return null;
}
