/**
 * Raises the format version of a volume that is not mounted.
 *
 * Both super blocks carry the version. They are written one after the other; when
 * the second write fails they differ, the volume cannot be mounted, and repeating
 * the command finishes the work.
 *
 * Spec: mkfs.md 8.2.
 */
import { FORMAT_VERSION_MAX, FORMAT_VERSION_MIN } from '../core/format.js';
import type { SuperBlock } from '../core/format.js';
import type { Device } from '../env/device.js';
import { ScoutfsError } from '../observe/errors.js';
import { viewOf } from './block.js';
import { checkNotInUse } from './in_use.js';
import { checkRoles, readOfflineSuper, rewriteSuper } from './super.js';
import type { RawSuper } from './super.js';

const FMT_VERS_OFFSET = 40;

/** What was found and done; `changed` is false when both copies had the version already. */
export interface VersionChange {
  sb: SuperBlock;
  changed: boolean;
}

function checkSupported(dev: Device, sb: SuperBlock): void {
  if (sb.fmtVers < FORMAT_VERSION_MIN || sb.fmtVers > FORMAT_VERSION_MAX) {
    throw new ScoutfsError('BAD_VERSION', 'EINVAL', {
      message: `${dev.path}: format version ${sb.fmtVers} is not supported`,
    });
  }
}

function checkNoDowngrade(dev: Device, sb: SuperBlock, fmtVers: number): void {
  if (sb.fmtVers > fmtVers) {
    throw new ScoutfsError('VERSION_DOWNGRADE', 'EPERM', {
      message: `${dev.path}: format version ${sb.fmtVers} cannot be lowered to ${fmtVers}`,
    });
  }
}

async function setVersion(dev: Device, { block, sb }: RawSuper, fmtVers: number): Promise<void> {
  if (sb.fmtVers === fmtVers) return;
  viewOf(block).setBigUint64(FMT_VERS_OFFSET, BigInt(fmtVers), true);
  await rewriteSuper(dev, block);
}

/**
 * @throws BAD_SUPER (EIO) for a super block that cannot be read or is of another
 *   volume, BAD_SUPER (EINVAL) for swapped devices, BAD_VERSION (EINVAL), IN_USE
 *   (EBUSY), VERSION_DOWNGRADE (EPERM)
 */
export async function changeFormatVersion(meta: Device, data: Device, fmtVers: number):
Promise<VersionChange> {
  const metaSuper = await readOfflineSuper(meta);
  const dataSuper = await readOfflineSuper(data, metaSuper.sb.hdr.fsid);
  const sb = { ...metaSuper.sb, fmtVers };
  if (metaSuper.sb.fmtVers === fmtVers && dataSuper.sb.fmtVers === fmtVers) {
    return { sb, changed: false };
  }
  checkRoles(meta, metaSuper.sb, data, dataSuper.sb);
  checkSupported(meta, metaSuper.sb);
  checkSupported(data, dataSuper.sb);
  await checkNotInUse(meta, metaSuper.sb);
  checkNoDowngrade(meta, metaSuper.sb, fmtVers);
  checkNoDowngrade(data, dataSuper.sb, fmtVers);
  await setVersion(meta, metaSuper, fmtVers);
  await setVersion(data, dataSuper, fmtVers);
  return { sb, changed: true };
}
