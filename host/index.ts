/**
 * What programs may import from this package: mounting in process, the offline tools,
 * and the codecs of the format. The command line is built from the same parts.
 */
export { Mount } from './super.js';
export type { Volume } from './super.js';
export { mkfs } from './disk/mkfs.js';
export type { MkfsOptions } from './disk/mkfs.js';
export { checkVolume } from './disk/check.js';
export { readSupers } from './disk/super.js';
export { openDevice } from './env/device.js';
export type { Device } from './env/device.js';
export { realEnv } from './env/env.js';
export type { Env } from './env/env.js';
export { openLog } from './observe/log.js';
export { ScoutfsError } from './observe/errors.js';
export * as format from './core/format.js';
