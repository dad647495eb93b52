/**
 * File data on a real mount.
 */
import { copy } from './copy.js';
import { fallocate } from './fallocate.js';
import { runAreas } from './kit.js';
import { mmap } from './mmap.js';
import { truncate } from './truncate.js';
import { write } from './write.js';

runAreas('data', { truncate, write, fallocate, mmap, copy });
