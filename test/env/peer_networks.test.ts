/**
 * The allow list of peer networks: what it may say, and whom it keeps out.
 */
import t from 'tap';
import type { Endpoint, TcpSocket } from '../../host/env/net.js';
import { parseIpv4 } from '../../host/env/net.js';
import { isInside, networksString, onlyFrom, parseNetworks } from
  '../../host/env/peer_networks.js';
import { parseOptions, shownOptions } from '../../host/mount/options.js';
import { C } from '../../host/observe/counters.js';
import { makeLog } from '../../host/observe/log.js';
import { asScoutfsError } from '../../host/observe/errors.js';
import { SimMount, simVolume } from '../lib/simmount.js';
import { SimNet } from '../lib/simnet.js';
import { settle } from '../lib/simclock.js';
import { SimWorld } from '../lib/simworld.js';

const SERVER: Endpoint = { addr: parseIpv4('10.0.0.1'), port: 4000 };

t.test('lists of networks', async (t) => {
  const inside = (list: string, addr: string): boolean =>
    isInside(parseNetworks(list), parseIpv4(addr));
  t.ok(inside('10.0.0.0/8+192.168.1.0/24', '10.255.255.255'));
  t.ok(inside('10.0.0.0/8+192.168.1.0/24', '192.168.1.255'));
  t.notOk(inside('10.0.0.0/8+192.168.1.0/24', '192.168.2.0'));
  t.notOk(inside('10.0.0.0/8', '9.255.255.255'));
  t.notOk(inside('10.0.0.0/8', '11.0.0.0'));
  t.ok(inside('0.0.0.0/0', '255.255.255.255'));
  t.ok(inside('128.0.0.0/1', '::ffff:200.1.1.1'), 'a mapped peer');
  t.ok(inside('10.1.2.3', '10.1.2.3'), 'one address');
  t.notOk(inside('10.1.2.3', '10.1.2.4'));
  t.ok(inside('::FFFF:172.16.0.0/108', '172.31.255.255'), 'a mapped network');
  t.ok(isInside([], 1), 'no list, no rule');
  t.equal(networksString(parseNetworks('::ffff:10.0.0.0/104+1.2.3.4')), '10.0.0.0/8+1.2.3.4/32');
  for (const [list, why] of [
    ['', /not ADDRESS/], ['10.0.0.0/33', /must be 0 to 32/], ['10.0.0/8', /not IPv4/],
    ['10.0.0.256/32', /not IPv4/], ['10.0.0.1/8', /behind its prefix/], ['fe80::1/64', /not ADDR/],
    ['::ffff:10.0.0.0/8', /must be 96 to 128/], ['10.0.0.0/8+', /not ADDRESS/],
    ['10.0.0.0/-1', /not ADDRESS/], ['10.0.0.0/8 ', /not ADDRESS/],
    [Array.from({ length: 65 }, () => '10.0.0.1').join('+'), /more than 64/],
  ] as const) {
    t.throws(() => parseNetworks(list), { errno: 'EINVAL', message: why }, list);
  }
});

t.test('the mount option', async (t) => {
  const o = parseOptions('metadev_path=/dev/a,peer_networks=10.0.0.0/8+192.168.1.0/24');
  t.match(shownOptions(o), /,peer_networks=10\.0\.0\.0\/8\+192\.168\.1\.0\/24,/);
  t.notMatch(shownOptions(parseOptions('metadev_path=/dev/a')), /peer_networks/);
  t.throws(() => parseOptions('peer_networks'), { message: /needs a network/ });
  t.throws(() => parseOptions('peer_networks=10.0.0.1/8'),
    { message: /malformed option, "peer_networks=10\.0\.0\.1\/8": network .* behind its prefix/ });
});

t.test('sockets and datagrams of others are dropped', async (t) => {
  const net = new SimNet();
  const refused: number[] = [];
  const guarded = onlyFrom(net, parseNetworks('10.0.0.0/8'), (from) => {
    refused.push(from.addr);
  });
  const accepted: TcpSocket[] = [];
  const datagrams: number[] = [];
  await guarded.listen(SERVER, 0, (s) => { accepted.push(s); });
  await guarded.bindUdp(SERVER, (bytes) => { datagrams.push(bytes.length); }, () => undefined);
  for (const from of ['10.9.9.9', '11.0.0.1'].map(parseIpv4)) {
    const socket = await net.connectFrom({ addr: from, port: 1 }, SERVER);
    let closed = false;
    socket.start({ data: () => undefined, closed: () => { closed = true; } });
    const udp = await net.bindUdp({ addr: from, port: 1 }, () => undefined);
    udp.send(new Uint8Array(from & 255), SERVER);
    await settle();
    t.equal(closed, from === parseIpv4('11.0.0.1'));
  }
  t.same([accepted.length, datagrams], [1, [9]]);
  t.same(refused, [parseIpv4('11.0.0.1'), parseIpv4('11.0.0.1')]);
  t.equal(asScoutfsError(await guarded.connect({ addr: 1, port: 1 },
    { timeoutMs: 1, silenceTimeoutMs: 1 }).catch((e: unknown) => e)).errno, 'EACCES');
});

t.test('a mount refuses slots outside, and keeps other nodes out', async (t) => {
  const world = new SimWorld(1);
  const volume = await simVolume(world);
  const outside = await world.run(SimMount.start(world.host(1), volume,
    { options: 'peer_networks=192.168.0.0/16' }).catch((e: unknown) => e));
  t.match(asScoutfsError(outside), { errno: 'EINVAL',
    message: 'quorum slot 0 at 10.0.0.1:4000 is outside of peer_networks=192.168.0.0/16' });
  const lines: string[] = [];
  const a = await world.run(SimMount.start(world.host(1), volume, {
    options: 'peer_networks=10.0.0.0/30', log: makeLog('warn', (_, text) => { lines.push(text); }),
  }));
  const b = await world.run(SimMount.start(world.host(2), volume, { slotNr: null }));
  await world.run(b.unmount());
  let mounted = false;
  void SimMount.start(world.host(9), volume, { slotNr: null }).then(() => { mounted = true; });
  await world.clock.advance(60_000);
  t.notOk(mounted, 'host 10.0.0.9 has no server');
  const refusals = lines.filter((l) => l.includes('outside of peer_networks'));
  t.match(refusals[0], /refused from 10\.0\.0\.9:\d+: outside of peer_networks$/);
  t.match(refusals.at(-1), /\(\d+ more were not logged\)$/, 'few lines for many attempts');
  t.ok(refusals.length < 40, `${refusals.length} lines`);
  const counts = await world.run(a.client.member?.counters() ?? Promise.reject(new Error()));
  t.ok((counts[C.net_refused_peers] ?? 0) > 500, 'all are counted');
  world.host(9).killAll();
  await world.run(a.unmount());
});
