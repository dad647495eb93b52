/**
 * `scoutfs demo`, which `npm start` runs: a volume on two sparse image files, mounted.
 *
 * Run again it mounts the same volume again. Everything is in one folder, which can be
 * deleted after unmounting.
 */
import * as fs from 'node:fs';
import { join, resolve } from 'node:path';
import { openDevice } from '../env/device.js';
import { mkfs } from '../disk/mkfs.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { mountAt } from './daemon.js';
import { checkHost, mountVolume } from './mount.js';
import { parseInRange } from './values.js';

const GIB = 1024 ** 3;
/** Sparse: only what is used takes space. Less metadata would leave no room above the reserve. */
const META_BYTES = 8 * GIB;
const DATA_BYTES = 16 * GIB;
const LOCALHOST = 0x7f000001;
const DEFAULT_PORT = 19700;
const PORT_MAX = 65535;

/** Makes the images and the volume unless they are there. */
async function makeVolume(io: CommandIo, folder: string, port: number): Promise<void> {
  const [metaPath, dataPath] = [join(folder, 'meta.img'), join(folder, 'data.img')];
  if (fs.existsSync(metaPath) && fs.existsSync(dataPath)) return;
  fs.mkdirSync(join(folder, 'mnt'), { recursive: true });
  for (const [path, bytes] of [[metaPath, META_BYTES], [dataPath, DATA_BYTES]] as const) {
    fs.closeSync(fs.openSync(path, 'w'));
    fs.truncateSync(path, bytes);
  }
  const meta = await openDevice(metaPath);
  const data = await openDevice(dataPath);
  try {
    await mkfs(meta, data, {
      slots: [{ nr: 0, addr: LOCALHOST, port }], allowSmallSize: true, force: true,
    }, { clock: io.env.clock, random: io.env.random, remark: () => undefined });
  } finally {
    await meta.close();
    await data.close();
  }
}

async function run(args: Args, io: CommandIo): Promise<number> {
  checkHost();
  const folder = resolve(args.optional(0) ?? 'demo');
  const dir = join(folder, 'mnt');
  const port = parseInRange(args.value('port') ?? String(DEFAULT_PORT), 'port', 1, PORT_MAX);
  await makeVolume(io, folder, port);
  if (mountAt(dir) === undefined) {
    await mountVolume(io.env.clock, {
      dataDevice: join(folder, 'data.img'), dir,
      options: `metadev_path=${join(folder, 'meta.img')},quorum_slot_nr=0`,
      foreground: false, logPath: join(folder, 'scoutfs.log'), logLevel: 'info',
    });
  }
  io.out(`
A scoutfs volume is mounted at

    ${dir}

Try:    cp -a /usr/share/doc ${dir}/ && du -sh ${dir}/doc
        df -h ${dir}
        tail -f ${join(folder, 'scoutfs.log')}

Stop:   npx scoutfs umount ${dir}
Check:  npx scoutfs check ${join(folder, 'meta.img')} ${join(folder, 'data.img')}
`);
  io.result({ dir, folder });
  return 0;
}

export const demoCommand: CommandSpec = {
  name: 'demo',
  group: 'User space',
  args: ['[FOLDER]'],
  description: 'Make a volume on two image files in FOLDER (default ./demo) and mount it',
  options: [
    { short: 'P', long: 'port', value: 'PORT', description: 'Port of its quorum slot (19700)' },
  ],
  json: true,
  usageStatus: 2,
  run,
};
