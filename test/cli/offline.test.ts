/**
 * The offline commands as programs: output and exit codes on good volumes, and
 * every kind of bad input: swapped, truncated, foreign, unformatted, busy, too
 * small, occupied.
 */
import { closeSync, copyFileSync, openSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { scoutfs } from '../lib/cli.js';
import type { Ran } from '../lib/cli.js';
import { imageFile } from '../lib/image.js';
import { skipWithoutSpec, tempDir, vectors } from '../lib/shared.js';
import type { VolumeVectors } from '../lib/volume_vectors.js';

const MIB = 2 ** 20;

/** A directory with a volume in the images m and d. */
async function volume(t: { teardown(fn: () => unknown): void }, ...options: string[]):
Promise<string> {
  const { dir, remove } = tempDir('scoutfs-cli');
  t.teardown(remove);
  imageFile(dir, 'm', 128 * MIB);
  imageFile(dir, 'd', 256 * MIB);
  const r = await scoutfs(dir, 'mkfs', '-A', '-Q', '0,127.0.0.1,5000', 'm', 'd', ...options);
  if (r.status !== 0) throw new Error(r.stderr);
  return dir;
}

/** Overwrites bytes of an image. */
function poke(path: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

/** Expects failure with this errno line. */
function failed(t: Test, r: Ran, message: RegExp, line: string): void {
  t.equal(r.status, 1, line);
  t.match(r.stderr, message);
  t.equal(r.stderr.trim().split('\n').pop(), `scoutfs: ${line}`);
}

t.test('output of mkfs', { skip: skipWithoutSpec() }, async (t) => {
  const { volumes } = vectors('format-vectors.json') as VolumeVectors;
  const v = volumes.find((x) => x.name === 'v2-256M-1G-3slots');
  const { dir, remove } = tempDir('scoutfs-cli');
  t.teardown(remove);
  imageFile(dir, 'META', v?.inputs.meta_device_bytes ?? 0);
  imageFile(dir, 'DATA', v?.inputs.data_device_bytes ?? 0);
  const slots = v?.inputs.quorum_slots.flatMap((s) => ['-Q', `${s.nr},${s.addr},${s.port}`]) ?? [];
  const r = await scoutfs(dir, 'mkfs', ...slots, '--allow-small-size', 'META', 'DATA');
  t.equal(r.status, 0);
  const random = (text: string): string => text
    .replace(/fsid: +[0-9a-f]{1,16}\n/, 'FSID\n').replace(/uuid: +[-0-9a-f]{36}\n/, 'UUID\n');
  t.equal(random(r.stdout), random(v?.stdout ?? ''));
  // ours come after upstream's lines
  t.equal(r.stderr.replace(/^scoutfs: warning: .*\n/gm, ''), v?.stderr);
});

t.test('mkfs refuses', async (t) => {
  const dir = await volume(t);
  const slot = ['-Q', '0,127.0.0.1,5000'];
  failed(t, await scoutfs(dir, 'mkfs', ...slot, '-A', 'm', 'd'),
    /^m: appears to contain an existing ScoutFS superblock\n/, 'mkfs failed: Invalid argument (22)');
  poke(imageFile(dir, 'x', 128 * MIB), 0, Buffer.from('XFSB'));
  failed(t, await scoutfs(dir, 'mkfs', ...slot, '-A', 'x', 'd'),
    /^x: appears to contain an XFS file system, use -f/, 'mkfs failed: Invalid argument (22)');
  failed(t, await scoutfs(dir, 'mkfs', ...slot, '-f', 'm', 'd'),
    /^128\.00MB too small for min 64\.00GB meta device\n/, 'mkfs failed: Invalid argument (22)');
  imageFile(dir, 'tiny', 64 * MIB);
  failed(t, await scoutfs(dir, 'mkfs', ...slot, '-fA', 'tiny', 'd'),
    /tiny: 1024 blocks of 65536 bytes cannot hold a volume/, 'mkfs failed: Invalid argument (22)');
  failed(t, await scoutfs(dir, 'mkfs', ...slot, '-A', 'absent', 'd'),
    /^failed to open 'absent': No such file or directory \(2\)\n/,
    'mkfs failed: No such file or directory (2)');
  failed(t, await scoutfs(dir, 'mkfs', ...slot, '-A', dir, 'd'),
    /neither a block device nor a regular file/, 'mkfs failed: Block device required (15)');
  t.equal((await scoutfs(dir, 'mkfs', ...slot, '-fA', 'x', 'd')).status, 0, 'unless forced');
});

t.test('mkfs rounds limits and says so; --json', async (t) => {
  const { dir, remove } = tempDir('scoutfs-cli');
  t.teardown(remove);
  imageFile(dir, 'm', 128 * MIB);
  imageFile(dir, 'd', 256 * MIB);
  const r = await scoutfs(dir, 'mkfs', '-AQ', '3,10.0.0.1,7000', 'm', '-m', '100000K', 'd', '-V1',
    '--json');
  t.equal(r.status, 0);
  t.match(r.stderr, /^max-meta-size 100000K .* rounded down to 102367232 bytes/);
  t.match(JSON.parse(r.stdout), {
    metaDevice: 'm', formatVersion: 1, totalMetaBlocks: 1562, totalDataBlocks: 65536,
    quorumSlots: [{ nr: 3, addr: '10.0.0.1', port: 7000 }],
  });
});

t.test('mkfs warns of what will surprise', async (t) => {
  const { dir, remove } = tempDir('scoutfs-cli');
  t.teardown(remove);
  const GIB = 1024 * MIB;
  imageFile(dir, 'small', 8 * GIB - 65536);
  imageFile(dir, 'm', 8 * GIB);
  imageFile(dir, 'd', GIB);
  const slots = (nr: number): string[] =>
    Array.from({ length: nr }, (_, i) => ['-Q', `${i},10.0.0.${i + 1},7000`]).flat();
  const warnings = async (nr: number, meta: string): Promise<string[]> => {
    const r = await scoutfs(dir, 'mkfs', '-fA', ...slots(nr), meta, 'd');
    t.equal(r.status, 0);
    t.notMatch(r.stdout, /warning/, 'standard output is upstream\'s');
    return r.stderr.split('\n').filter((l) => l.startsWith('scoutfs: warning: '));
  };
  t.same(await warnings(1, 'm'), []);
  t.same(await warnings(3, 'm'), []);
  t.match(await warnings(2, 'm'), [/two quorum slots: one vote elects/]);
  t.match(await warnings(1, 'small'), [/metadata device of 8\.00GB: .*ENOSPC/]);
  t.equal((await warnings(2, 'small')).length, 2);
});

t.test('change-format-version', async (t) => {
  const dir = await volume(t, '-V', '1');
  const cmd = 'change-format-version';
  t.match(await scoutfs(dir, cmd, 'm', 'd'), { status: 64, stderr: /must specify offline/ });
  failed(t, await scoutfs(dir, cmd, '-F', 'd', 'm'), /d: is a data device, not a metadata device/,
    `${cmd} failed: Invalid argument (22)`);
  imageFile(dir, 'blank', 128 * MIB);
  failed(t, await scoutfs(dir, cmd, '-F', 'blank', 'd'), /^blank: no scoutfs super block/,
    `${cmd} failed: Input/output error (5)`);
  const other = await volume(t, '-V', '1');
  failed(t, await scoutfs(dir, cmd, '-F', 'm', join(other, 'd')), /belongs to the volume with fsid/,
    `${cmd} failed: Input/output error (5)`);
  copyFileSync(join(dir, 'm'), join(dir, 'short'));
  truncateSync(join(dir, 'short'), 65536);
  failed(t, await scoutfs(dir, cmd, '-F', 'short', 'd'), /short: too small for a super block/,
    `${cmd} failed: Input/output error (5)`);
  const r = await scoutfs(dir, cmd, '-F', 'm', 'd');
  t.equal(r.status, 0);
  t.match(r.stdout, new RegExp(['^Successfully updated format version for scoutfs filesystem:',
    '  meta device path:     m', '  data device path:     d', '  fsid:                 [0-9a-f]+',
    '  uuid:                 [-0-9a-f]{36}', '  format version:       2\n$'].join('\n')));
  t.match(await scoutfs(dir, cmd, '-F', 'm', 'd'), { status: 0,
    stdout: 'both metadata and data device format version are already 2, nothing to do.\n' });
  failed(t, await scoutfs(dir, cmd, '-F', '-V1', 'm', 'd'), /cannot be lowered to 1/,
    `${cmd} failed: Operation not permitted (1)`);
});

t.test('change-quorum-config', async (t) => {
  const dir = await volume(t);
  const cmd = 'change-quorum-config';
  t.match(await scoutfs(dir, cmd, '-F', 'm'), { status: 64, stderr: /at least one quorum slot/ });
  t.match(await scoutfs(dir, cmd, '-Q0,1.2.3.4,5', 'm'), { status: 64, stderr: /offline/ });
  t.match(await scoutfs(dir, cmd, '-F', '-Q', '99,1.2.3.4,5', 'm'), { status: 64 });
  failed(t, await scoutfs(dir, cmd, '-F', '-Q0,1.2.3.4,5', 'd'), /is a data device/,
    `${cmd} failed: Invalid argument (22)`);
  const r = await scoutfs(dir, cmd, '-F', '-Q', '1,10.0.0.2,7000', '-Q', '0,10.0.0.1,7000', 'm');
  t.match(r.stdout, new RegExp(['quorum config version: {2}2',
    '  quorum slots:           0: 10.0.0.1:7000', '                          1: 10.0.0.2:7000\n$']
    .join('\n')));
  t.match(r.stdout, /^Successfully changed quorum config for scoutfs filesystem:\n/);
});

t.test('prepare-empty-data-device', async (t) => {
  const dir = await volume(t);
  const cmd = 'prepare-empty-data-device';
  t.match(await scoutfs(dir, cmd, '-c', 'm'), { status: 0, stdout: 'All checks passed.\n' });
  t.match(await scoutfs(dir, cmd, 'm'), { status: 64, stderr: /DATA-DEVICE/ });
  imageFile(dir, 'small', 256 * MIB - 4096);
  const r = await scoutfs(dir, cmd, '-c', 'm', 'small');
  failed(t, r, /65535 \(256\.00 MB\) blocks are fewer/, `${cmd} failed: Invalid argument (22)`);
  t.match(r.stdout, /must be addressed/);
  imageFile(dir, 'n', 512 * MIB);
  t.match(await scoutfs(dir, cmd, 'm', 'n'), { status: 0,
    stdout: /^Successfully initialized empty data device for scoutfs filesystem:\n/ });
  t.match(await scoutfs(dir, 'check', 'm', 'n'), { status: 0, stdout: /The volume is sound\.\n$/ });
});

t.test('busy', async (t) => {
  const dir = await volume(t, '-V1');
  poke(join(dir, 'm'), 69632 + 40, Uint8Array.of(5));
  failed(t, await scoutfs(dir, 'change-format-version', '-F', 'm', 'd'),
    /quorum slot 0 is in use: begin event: .* write_nr 5, end event: .* write_nr 0/,
    'change-format-version failed: Device or resource busy (16)');
});

t.test('check', async (t) => {
  const dir = await volume(t);
  t.match(await scoutfs(dir, 'check', 'm', 'd'), { status: 0, stderr: '' });
  t.match(await scoutfs(dir, 'check', '-q', 'm', 'd'), { status: 0, stdout: '' });
  t.match(JSON.parse((await scoutfs(dir, 'check', '--json', 'm', 'd')).stdout),
    { findings: [], summary: { inodes: 1 } });
  t.match(await scoutfs(dir, 'check', 'd', 'm'), { status: 1, stdout: /CHK_SUPER_FLAGS: / });
  t.match(await scoutfs(dir, 'check', 'absent', 'd'), { status: 2, stderr: /failed to open/ });
  t.match(await scoutfs(dir, 'check', '--max-findings=0', 'm', 'd'), { status: 2 });
  poke(join(dir, 'm'), 131072 + 60000, Uint8Array.of(1));
  t.match(await scoutfs(dir, 'check', 'm', 'd'),
    { status: 1, stdout: /CHK_BLOCK_CRC: .*\n(.*\n)*The volume is damaged\.\n$/ });
});
