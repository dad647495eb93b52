/**
 * `scoutfs demo`, which `npm start` runs: a volume on two sparse image files, mounted.
 *
 * Run again it mounts the same volume again. Everything is in one folder, which can be
 * deleted after unmounting. With --nodes it is a cluster (demo_cluster.ts).
 */
import * as fs from 'node:fs';
import { join, resolve } from 'node:path';
import { openDevice } from '../env/device.js';
import { WARNING, slotAdvice } from '../disk/advice.js';
import { mkfs } from '../disk/mkfs.js';
import { addrText, configuredSlots } from '../disk/quorum_slots.js';
import type { SlotConfig } from '../disk/quorum_slots.js';
import { readOfflineSuper } from '../disk/super.js';
import { errnoError } from '../observe/errors.js';
import type { Args, CommandIo, CommandSpec } from './command.js';
import { mountAt } from './daemon.js';
import { NODES_MAX, demoSlots, runDemoCluster } from './demo_cluster.js';
import { checkHost, mountVolume } from './mount.js';
import { parseInRange } from './values.js';

const GIB = 1024 ** 3;
/** Sparse: only what is used takes space. Less metadata would leave no room above the reserve. */
const META_BYTES = 8 * GIB;
const DATA_BYTES = 16 * GIB;
/** Every further node raises the reserve, and keeps up to 4 GiB of data space for itself. */
const META_BYTES_PER_NODE = 3 * GIB;
const DATA_BYTES_PER_NODE = 5 * GIB;
const DEFAULT_PORT = 19700;
const PORT_MAX = 65535;

/** The slots of the volume in a folder, null when there is none. @throws EIO, for no volume */
async function slotsIn(folder: string): Promise<SlotConfig[] | null> {
  const [metaPath, dataPath] = [join(folder, 'meta.img'), join(folder, 'data.img')];
  if (!fs.existsSync(metaPath) || !fs.existsSync(dataPath)) return null;
  const meta = await openDevice(metaPath, { readOnly: true });
  try {
    return configuredSlots((await readOfflineSuper(meta)).sb.qconf.slots);
  } finally {
    await meta.close();
  }
}

/**
 * Makes the images and the volume unless they are there. @returns its slots
 * @throws EINVAL when the one that is there has others
 */
async function makeVolume(io: CommandIo, folder: string, nodes: number, portText?: string):
Promise<SlotConfig[]> {
  const port = parseInRange(portText ?? String(DEFAULT_PORT), 'port', 1, PORT_MAX);
  const there = await slotsIn(folder);
  if (there !== null) {
    const text = there.map((s) => `${addrText(s.addr)}:${s.port}`).join(', ');
    if (there.length !== nodes || (portText !== undefined && there[0]?.port !== port)) {
      throw errnoError('EINVAL', `${folder}: the volume there has the quorum slots ${text}: ` +
        'give their number and port, or another folder');
    }
    return there;
  }
  const slots = demoSlots(nodes, port);
  const [metaPath, dataPath] = [join(folder, 'meta.img'), join(folder, 'data.img')];
  fs.mkdirSync(folder, { recursive: true });
  const more = slots.length - 1;
  const metaBytes = META_BYTES + more * META_BYTES_PER_NODE;
  const dataBytes = DATA_BYTES + more * DATA_BYTES_PER_NODE;
  for (const [path, bytes] of [[metaPath, metaBytes], [dataPath, dataBytes]] as const) {
    fs.closeSync(fs.openSync(path, 'w'));
    fs.truncateSync(path, bytes);
  }
  const meta = await openDevice(metaPath);
  const data = await openDevice(dataPath);
  try {
    await mkfs(meta, data, {
      slots, allowSmallSize: true, force: true,
    }, { clock: io.env.clock, random: io.env.random, remark: () => undefined });
  } finally {
    await meta.close();
    await data.close();
  }
  return slots;
}

async function run(args: Args, io: CommandIo): Promise<number> {
  const nodes = args.value('nodes');
  if (nodes !== undefined) {
    const count = parseInRange(nodes, 'nodes', 1, NODES_MAX);
    checkHost();
    const folder = resolve(args.optional(0) ?? join('demo', `nodes-${count}`));
    const slots = await makeVolume(io, folder, count, args.value('port'));
    const advice = slotAdvice(count);
    if (advice !== null) io.err(WARNING + advice);
    await runDemoCluster(io, folder, slots);
    return 0;
  }
  checkHost();
  const folder = resolve(args.optional(0) ?? 'demo');
  const dir = join(folder, 'mnt');
  await makeVolume(io, folder, 1, args.value('port'));
  fs.mkdirSync(dir, { recursive: true });
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
    { short: 'n', long: 'nodes', value: 'N',
      description: `Mount it N times (1 to ${NODES_MAX}) as a cluster, until Ctrl-C` },
    { short: 'P', long: 'port', value: 'PORT', description: 'Port of its quorum slots (19700)' },
  ],
  json: true,
  usageStatus: 2,
  run,
};
