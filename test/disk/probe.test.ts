/**
 * Signatures that mkfs must not overwrite: written by hand for each entry of the
 * table, by the real tools where they are installed, and absent from empty devices
 * and from scoutfs itself.
 */
import { execFileSync } from 'node:child_process';
import { openSync, closeSync, writeSync } from 'node:fs';
import t from 'tap';
import { mkfs } from '../../host/disk/mkfs.js';
import { probeDevice } from '../../host/disk/probe.js';
import { openDevice } from '../../host/env/device.js';
import { realEnv } from '../../host/env/env.js';
import { imageDevice, imageFile } from '../lib/image.js';
import { tempDir } from '../lib/shared.js';

const MIB = 2 ** 20;
const SIZE = 64 * MIB;

const PLACES: [what: RegExp, offset: number, bytes: string][] = [
  [/ext4/, 0x438, '53ef'],
  [/XFS/, 0, '58465342'],
  [/btrfs/, 0x10040, '5f42485266535f4d'],
  [/NTFS/, 3, '4e54465320202020'],
  [/FAT/, 0x52, '4641543332202020'],
  [/swap/, 4086, Buffer.from('SWAPSPACE2').toString('hex')],
  [/LVM/, 512, Buffer.from('LABELONE').toString('hex')],
  [/LUKS/, 0, '4c554b53babe'],
  [/RAID/, 4096, 'fc4e2ba9'],
  [/RAID/, SIZE - 65536, 'fc4e2ba9'],
  [/RAID/, SIZE - 8192, 'fc4e2ba9'],
  [/GPT/, 512, Buffer.from('EFI PART').toString('hex')],
  [/GPT/, SIZE - 512, Buffer.from('EFI PART').toString('hex')],
  [/ZFS/, 131072, '0cb1ba0000000000'],
  [/MBR/, 510, '55aa'],
];

t.test('signatures', async (t) => {
  const { dir, remove } = tempDir('scoutfs-probe');
  t.teardown(remove);
  for (const [what, offset, bytes] of PLACES) {
    const path = imageFile(dir, 'img', SIZE);
    const fd = openSync(path, 'r+');
    writeSync(fd, Buffer.from(bytes, 'hex'), 0, bytes.length / 2, offset);
    closeSync(fd);
    const dev = await openDevice(path);
    t.match(await probeDevice(dev), what, `at ${offset}`);
    await dev.close();
  }
});

t.test('nothing', async (t) => {
  const { dir, remove } = tempDir('scoutfs-probe');
  t.teardown(remove);
  for (const size of [0, 100, 4096, 65536, 135 * 1024, 200001, SIZE]) {
    const dev = await imageDevice(dir, 'img', size);
    t.equal(await probeDevice(dev), null, `${size} empty bytes`);
    await dev.close();
  }
});

t.test('mkfs refuses what the probe finds, unless forced', async (t) => {
  const { dir, remove } = tempDir('scoutfs-probe');
  t.teardown(remove);
  const opts = { slots: [{ nr: 0, addr: 0x7f000001, port: 5000 }], allowSmallSize: true };
  const env = { ...realEnv, remark: () => undefined };
  const meta = await imageDevice(dir, 'meta', 128 * MIB);
  const data = await imageDevice(dir, 'data', 128 * MIB);
  await data.write(0, Buffer.alloc(4096, 'XFSB'));
  await t.rejects(mkfs(meta, data, opts, env), { code: 'EXISTING_CONTENTS', errno: 'EINVAL' });
  await mkfs(meta, data, { ...opts, force: true }, env);
  t.equal(await probeDevice(meta), null, 'a scoutfs volume is none of these');
  await t.rejects(mkfs(meta, data, opts, env), { code: 'EXISTING_CONTENTS' });
  await data.write(0, new Uint8Array(4096));
  await t.rejects(mkfs(meta, data, opts, env), { message: /existing ScoutFS superblock/ },
    'the volume we just made');
  await meta.close();
  await data.close();
});

t.test('the real tools', async (t) => {
  const { dir, remove } = tempDir('scoutfs-probe');
  t.teardown(remove);
  const tools: [what: RegExp, cmd: string, args: string[]][] = [
    [/ext4/, 'mkfs.ext4', ['-q', '-F']],
    [/swap/, 'mkswap', ['-q']],
    [/XFS/, 'mkfs.xfs', ['-q', '-f']],
    [/btrfs/, 'mkfs.btrfs', ['-q', '-f']],
    [/FAT/, 'mkfs.vfat', []],
  ];
  for (const [what, cmd, args] of tools) {
    const path = imageFile(dir, 'img', 512 * MIB);
    try {
      execFileSync(cmd, [...args, path], { stdio: 'ignore' });
    } catch (e) {
      t.comment(`${cmd} cannot be used here: ${(e as Error).message.split('\n')[0] ?? ''}`);
      continue;
    }
    const dev = await openDevice(path);
    t.match(await probeDevice(dev), what, cmd);
    await dev.close();
  }
  t.pass();
});
