/**
 * Names on a real mount: one area per system call.
 */
import { runAreas } from './kit.js';
import { link } from './link.js';
import { mkdir } from './mkdir.js';
import { mknod } from './mknod.js';
import { open } from './open.js';
import { paths } from './paths.js';
import { readdir } from './readdir.js';
import { rename } from './rename.js';
import { sticky } from './sticky.js';
import { symlink } from './symlink.js';
import { tmpfile } from './tmpfile.js';

runAreas('names', {
  paths, open, mkdir, mknod, symlink, link, rename, sticky, tmpfile, readdir,
});
