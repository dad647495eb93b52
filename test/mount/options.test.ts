/**
 * The option list: defaults, ranges, C integers, unknown and repeated elements.
 */
import t from 'tap';
import {
  NUMBER_OPTIONS, changeOption, checkOption, defaultOptions, parseOptions, shownOptions,
} from '../../host/mount/options.js';

void t.test('defaults are upstream\'s', (tt) => {
  const o = parseOptions('');
  tt.strictSame(o, defaultOptions());
  tt.match(o, {
    acl: true, dataPreallocBlocks: 2048, dataPreallocContigOnly: 1, inoAllocPerLock: 1024,
    lockIdleCount: 10000, logMergeWaitTimeoutMs: 500, orphanScanDelayMs: 10000,
    quorumHeartbeatTimeoutMs: 10000, quorumSlotNr: null, tcpKeepaliveTimeoutMs: 24000,
  });
  tt.end();
});

void t.test('every numeric option takes its bounds and refuses what is beyond', (tt) => {
  for (const s of NUMBER_OPTIONS) {
    tt.equal(checkOption(s.name, String(s.min)).value, s.min);
    tt.equal(checkOption(s.name, String(s.max)).value, s.max);
    tt.throws(() => checkOption(s.name, String(s.max + 1)), /must be/);
    if (s.min > 0) tt.throws(() => checkOption(s.name, String(s.min - 1)), /must be/);
  }
  tt.end();
});

void t.test('lists', (tt) => {
  const o = parseOptions('rw,,metadev_path=/dev/a,quorum_slot_nr=0x2,noacl,ino_alloc_per_lock=010');
  tt.match(o, { metadevPath: '/dev/a', quorumSlotNr: 2, acl: false, inoAllocPerLock: 8 });
  tt.equal(parseOptions('noacl,acl').acl, true, 'the last one wins');
  tt.equal(parseOptions('lock_idle_count=40,lock_idle_count=50').lockIdleCount, 50);
  tt.match(parseOptions('ro,noatime,_netdev,nosuid'),
    { readOnly: true, kernelOptions: ['noatime', 'nosuid'] }, 'what the kernel enforces');
  for (const [list, why] of [
    ['bogus', /"bogus": no such option/], ['bogus=1', /"bogus=1"/], ['acl=1', /takes no value/],
    ['quorum_slot_nr', /needs a value/], ['quorum_slot_nr=', /not a number/],
    ['quorum_slot_nr=1x', /not a number/], ['quorum_slot_nr=-1', /not a number/],
    ['quorum_slot_nr=1,quorum_slot_nr=1', /only once/], ['quorum_slot_nr=15', /must be 0 to 14/],
    ['orphan_scan_delay_ms=200,orphan_scan_delay_ms=200', /only once/],
    ['metadev_path', /needs a path/], ['metadev_path=', /needs a path/],
    ['tcp_keepalive_timeout_ms=3000', /must be 3001/], ['lock_idle_count=08', /not a number/],
  ] as const) {
    tt.throws(() => parseOptions(list), { message: why }, list);
  }
  tt.end();
});

void t.test('changing options of a mount, and showing them', (tt) => {
  const o = parseOptions('metadev_path=/dev/a,quorum_slot_nr=3');
  tt.equal(changeOption(o, 'lock_idle_count', '0x20'), 'lockIdleCount');
  tt.equal(o.lockIdleCount, 32);
  tt.throws(() => changeOption(o, 'lock_idle_count', '31'), { code: 'MOUNT_OPTION' });
  tt.equal(o.lockIdleCount, 32, 'a refused value changes nothing');
  tt.throws(() => changeOption(o, 'quorum_slot_nr', '1'), { code: 'EACCES' });
  tt.throws(() => changeOption(o, 'none', '1'), { code: 'MOUNT_OPTION' });
  tt.equal(shownOptions(o), 'acl,data_prealloc_blocks=2048,data_prealloc_contig_only=1,' +
    'ino_alloc_per_lock=1024,metadev_path=/dev/a,orphan_scan_delay_ms=10000,quorum_slot_nr=3,' +
    'tcp_keepalive_timeout_ms=24000');
  tt.match(shownOptions(parseOptions('metadev_path=/m,noacl')),
    /^data_prealloc_blocks=.*,metadev_path=\/m,noacl,orphan_scan_delay_ms=10000,tcp_keep/);
  tt.end();
});
