/**
 * Values on the command line: C's numbers, sizes, quorum slots.
 */
import t from 'tap';
import { UsageError } from '../../host/cli/command.js';
import { parseCount, parseInRange, parseInet, parseSize, parseSlot, parseSlots, parseU64 } from
  '../../host/cli/values.js';

function refused(fn: () => unknown): string {
  try {
    fn();
    return 'accepted';
  } catch (e) {
    return e instanceof UsageError ? e.message : String(e);
  }
}

t.test('64-bit numbers', async (t) => {
  const good: [string, bigint][] = [
    ['0', 0n], ['10', 10n], ['010', 8n], ['0x10', 16n], ['0XfF', 255n], ['+3', 3n], [' 7', 7n],
    ['-1', 0xffffffffffffffffn], ['18446744073709551615', 0xffffffffffffffffn],
  ];
  for (const [text, n] of good) t.equal(parseU64(text), n, text);
  for (const text of ['', 'x', '1x', '08', '0x', '1 ', '18446744073709551616', '--1', '1.5']) {
    t.equal(refused(() => parseU64(text)), `invalid 64bit value: '${text}'`);
  }
  t.equal(parseCount('0x1fffffffffffff'), Number.MAX_SAFE_INTEGER);
  t.equal(refused(() => parseCount('-1')), "value too big: '-1'");
  t.equal(parseInRange('2', 'format-version', 1, 2), 2);
  t.equal(refused(() => parseInRange('3', 'format-version', 1, 2)),
    "format-version '3' must be between 1 and 2");
});

t.test('sizes', async (t) => {
  const good: [string, number][] = [
    ['0', 0], ['4096', 4096], ['1K', 1024], ['0x10K', 16384], ['010M', 8 * 2 ** 20],
    ['3G', 3 * 2 ** 30], ['2T', 2 ** 41], ['1P', 2 ** 50],
  ];
  for (const [text, n] of good) t.equal(parseSize(text), n, text);
  t.equal(refused(() => parseSize('1Q')), "unknown suffix: 'Q'");
  t.equal(refused(() => parseSize('1k')), "unknown suffix: 'k'");
  // Upstream takes these for 10G and 1K.
  t.equal(refused(() => parseSize('10Gx')), "unknown suffix: 'Gx'");
  t.equal(refused(() => parseSize('1KB')), "unknown suffix: 'KB'");
  t.equal(refused(() => parseSize('16384P')), "size too big: '16384P'");
  t.equal(refused(() => parseSize('99999999999999999999')),
    "size too big: '99999999999999999999'");
  t.equal(refused(() => parseSize('-1')), "invalid 64bit value: '-1'");
  t.equal(refused(() => parseSize('')), "invalid 64bit value: ''");
});

t.test('addresses as inet_aton reads them', async (t) => {
  const good: [string, number][] = [
    ['127.0.0.1', 0x7f000001], ['127.1', 0x7f000001], ['0x7f000001', 0x7f000001],
    ['2130706433', 0x7f000001], ['10.1.515', 0x0a010203], ['0377.0.0.1', 0xff000001],
    ['255.255.255.255', 0xffffffff],
  ];
  for (const [text, n] of good) t.equal(parseInet(text), n, text);
  for (const text of ['', '.', '1.2.3.', '1.2.3.256', '256.1', '1.2.65536', '4294967296', 'host',
    '1.2.3.4.5', '::1', '-1', ' 1.2.3.4', '1.2.3.4 ', `1.2.3.${'0'.repeat(45)}`]) {
    t.equal(parseInet(text), null, `'${text}'`);
  }
});

t.test('quorum slots', async (t) => {
  t.same(parseSlot('0,127.0.0.1,5000'), { nr: 0, addr: 0x7f000001, port: 5000 });
  t.same(parseSlot('14,192.168.255.1,65535'), { nr: 14, addr: 0xc0a8ff01, port: 65535 });
  const bad: [string, RegExp][] = [
    ['', /NR,ADDR,PORT/], ['0', /NR,ADDR,PORT/], ['0,127.0.0.1', /NR,ADDR,PORT/],
    ['0,127.0.0.1,5000,', /NR,ADDR,PORT/], ['15,127.0.0.1,5000', /slot number/],
    ['-1,127.0.0.1,5000', /slot number/], ['x,127.0.0.1,5000', /slot number/],
    [',127.0.0.1,5000', /slot number/], ['0,,5000', /not a numeric IPv4/],
    ['0,localhost,5000', /not a numeric IPv4/], ['0,0.0.0.0,5000', /no address of a host/],
    ['0,255.255.255.255,5000', /no address of a host/], ['0,127.0.0.1,0', /port/],
    ['0,127.0.0.1,65536', /port/], ['0,127.0.0.1,5000x', /port/],
  ];
  for (const [text, why] of bad) t.match(refused(() => parseSlot(text)), why, text);
  t.match(refused(() => parseSlots(['0,1.1.1.1,1', '0,1.1.1.2,1'])), /given twice/);
  t.match(refused(() => parseSlots(['0,1.1.1.1,1', '1,1.1.1.1,1'])), /same address/);
  t.equal(parseSlots(['0,1.1.1.1,1', '1,1.1.1.1,2']).length, 2);
});
