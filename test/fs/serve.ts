/**
 * A FUSE daemon for mounted tests of the file system row: the real operations on
 * the item cache of the tests, with random waits. Arguments: mount point, seed.
 * Answers the message 'check' with what is wrong with the items.
 */
import { isDying } from '../../host/env/caps.js';
import { realClock } from '../../host/env/clock.js';
import { openFuseDevice } from '../../host/env/fuse-device.js';
import { mountFuse } from '../../host/env/fuse-mount.js';
import { FuseSession } from '../../host/fuse/session.js';
import { FakeMount } from '../lib/fakemount.js';
import { checkItems } from '../lib/fsinvariants.js';

const [, , dir = '', seed = '1'] = process.argv;
const DATA_BLOCKS = 1_000_000;

async function serve(): Promise<void> {
  const m = new FakeMount({
    seed: Number(seed), waitChance: 0.02, dataBlocks: DATA_BLOCKS, dryChance: 0.02,
    shortChance: 0.1,
  });
  m.items.lenient = true;
  const log: string[] = [];
  const { fd } = await mountFuse({ source: 'none', dir, subtype: 'scoutfstest' });
  const session = new FuseSession({
    device: openFuseDevice(fd, false), clock: realClock, ops: m.ops, vfs: m.fs,
    caching: { mayCache: () => m.random() < 0.5 }, isDying,
  }, {
    end: () => { process.exit(0); },
    fatal: (message) => { log.push(message); },
    log: (message, e) => { log.push(`${message}: ${String(e)}`); },
  });
  session.start();
  process.on('message', () => {
    process.send?.([...checkItems(m.items.store, m.alloc.used), ...log, ...m.failures]);
  });
  process.send?.('ready');
}

process.on('disconnect', () => { process.exit(0); });
await serve();
