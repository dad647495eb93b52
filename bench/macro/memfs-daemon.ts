/**
 * Serves the in-memory file system on a directory until it is unmounted.
 *
 * Usage: node memfs-daemon.js DIR [--plain]
 * Prints "ready" when mounted; a SIGTERM or SIGINT unmounts.
 */
import { realClock } from '../../host/env/clock.js';
import { openFuseDevice } from '../../host/env/fuse-device.js';
import { abortFuse, mountFuse, unmountFuse } from '../../host/env/fuse-mount.js';
import { FuseSession } from '../../host/fuse/session.js';
import { MemFs, memCaching, memOps } from './memfs.js';

async function main(): Promise<void> {
  const [dir, ...flags] = process.argv.slice(2);
  if (dir === undefined) throw new Error('usage: memfs-daemon DIR [--plain]');
  const mount = await mountFuse({ source: 'memfs', dir, subtype: 'memfs' });
  const device = openFuseDevice(mount.fd, flags.includes('--plain'));
  const session = new FuseSession(
    {
      device, clock: realClock, vfs: new MemFs(), ops: memOps, caching: memCaching,
      isDying: () => false,
    },
    {
      end: () => { process.exit(0); },
      fatal: (message) => {
        process.stderr.write(`memfs: ${message}\n`);
        void abortFuse(mount.connection);
      },
      log: (message, err) => {
        process.stderr.write(`memfs: ${message} ${err instanceof Error ? err.stack : ''}\n`);
      },
    });
  session.start();
  const stop = (): void => { void unmountFuse(mount.dir, true); };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.stdout.write('ready\n');
}

main().catch((e: unknown) => {
  process.stderr.write(`memfs: ${e instanceof Error ? e.message : String(e)}\n`);
  process.exit(1);
});
