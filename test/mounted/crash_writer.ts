/**
 * The child of recovery.test.ts: creates files until the mount dies under it.
 *
 *   crash_writer DIR RECORDS SEED
 *
 * Every file is one of a batch; only the last of a batch is synced. What has been
 * achieved goes to RECORDS, which lies outside the mount, one line when it is done:
 *
 *   created NAME      written and closed, nothing promised
 *   synced NAME       its fsync returned: it must survive
 *   removed NAME      unlinked, and the directory's fsync returned: it must stay away
 *
 * Contents follow from the name (crashContents), so nothing else has to be recorded.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const BATCH_MAX = 6;
const LEN_MAX_BYTES = 150_000;
/** Every so many batches one synced file is removed again. */
const REMOVE_EVERY = 5;

/** What the file of this name contains: 0 to LEN_MAX_BYTES bytes. */
export function crashContents(name: string): Buffer {
  const hash = createHash('sha256').update(name).digest();
  const lenBytes = Math.floor(hash.readUInt32LE(0) * hash.readUInt32LE(4) / 2 ** 64 * LEN_MAX_BYTES);
  const out = Buffer.alloc(lenBytes);
  for (let at = 0; at < lenBytes; at += hash.length) hash.copy(out, at);
  out.write(name, 0);
  return out;
}

function work(dir: string, records: string, seed: string): void {
  const log = fs.openSync(records, 'a');
  const record = (what: string, name: string): void => { fs.writeSync(log, `${what} ${name}\n`); };
  const top = fs.openSync(dir, 'r');
  const synced: string[] = [];
  let nr = 0;
  for (let batch = 0; ; batch++) {
    const sub = `s${seed}.${batch % 3}`;
    fs.mkdirSync(join(dir, sub), { recursive: true });
    const count = 1 + (batch * 7) % BATCH_MAX;
    for (let i = 0; i < count; i++) {
      const name = `${sub}/f${nr++}`;
      const fd = fs.openSync(join(dir, name), 'wx');
      const data = crashContents(name);
      for (let at = 0; at < data.length;) at += fs.writeSync(fd, data, at);
      record('created', name);
      if (i === count - 1) {
        fs.fsyncSync(fd);
        record('synced', name);
        synced.push(name);
      }
      fs.closeSync(fd);
    }
    if (batch % REMOVE_EVERY === REMOVE_EVERY - 1) {
      const name = synced.shift() ?? '';
      record('removing', name);
      fs.unlinkSync(join(dir, name));
      fs.fsyncSync(top);
      record('removed', name);
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [dir, records, seed] = process.argv.slice(2);
  try {
    work(dir ?? '', records ?? '', seed ?? '');
  } catch (e) {
    // the mount is expected to go; anything else is the test's failure
    const code = (e as NodeJS.ErrnoException).code ?? '';
    process.exitCode = ['ENOTCONN', 'ECONNABORTED'].includes(code) ? 0 : 1;
    if (process.exitCode !== 0) console.error(e);
  }
}
