/**
 * Real sockets on the loopback address: bytes, ends, time-outs, the address in use.
 */
import t from 'tap';
import type { TcpSocket } from '../../host/env/net.js';
import { endpointString, ipv4String, parseIpv4, realNet } from '../../host/env/net.js';

const LOCAL = 0x7f000001;
const SILENCE_MS = 24_000;

t.test('addresses as text', async (t) => {
  t.equal(ipv4String(LOCAL), '127.0.0.1');
  t.equal(parseIpv4('192.168.77.10'), 0xc0a84d0a);
  t.equal(parseIpv4('::ffff:10.0.0.1'), 0x0a000001);
  t.equal(endpointString({ addr: LOCAL, port: 19700 }), '127.0.0.1:19700');
  for (const bad of ['', '1.2.3', '1.2.3.256', 'a.b.c.d', '1.2.3.4.5']) {
    t.throws(() => parseIpv4(bad), { code: 'BAD_ADDRESS' }, bad);
  }
});

t.test('bytes both ways, then the end', async (t) => {
  const accepted: TcpSocket[] = [];
  const listener = await realNet.listen({ addr: LOCAL, port: 0 }, SILENCE_MS, (s) => {
    accepted.push(s);
    s.start({ data: (b) => { s.write(b); }, closed: () => undefined });
  });
  const socket = await realNet.connect(listener.local,
    { timeoutMs: 1000, silenceTimeoutMs: SILENCE_MS });
  t.same(socket.remote, listener.local);
  const echoed = await new Promise<string>((resolve) => {
    let text = '';
    socket.start({
      data: (b) => {
        text += Buffer.from(b).toString();
        if (text.length === 6) resolve(text);
      },
      closed: () => undefined,
    });
    socket.write(new TextEncoder().encode('abc'));
    socket.write(new TextEncoder().encode('def'));
  });
  t.equal(echoed, 'abcdef');
  const ended = new Promise<unknown>((resolve) => {
    accepted[0]?.start({ data: () => undefined, closed: resolve });
  });
  socket.end();
  t.equal(await ended, null, 'an ordinary end is no error');
  await listener.close();
});

t.test('an address in use and a refused connection say so', async (t) => {
  const listener = await realNet.listen({ addr: LOCAL, port: 0 }, SILENCE_MS, () => undefined);
  await t.rejects(realNet.listen(listener.local, SILENCE_MS, () => undefined),
    { code: 'EADDRINUSE', message: /in use/ });
  await listener.close();
  await t.rejects(realNet.connect(listener.local, { timeoutMs: 1000, silenceTimeoutMs: SILENCE_MS }),
    { code: 'ECONNREFUSED' });
});

t.test('datagrams', async (t) => {
  const got: string[] = [];
  let wake: () => void = () => undefined;
  const a = await realNet.bindUdp({ addr: LOCAL, port: 0 }, (b, from) => {
    got.push(`${Buffer.from(b).toString()} from ${endpointString(from)}`);
    wake();
  }, () => undefined);
  await t.rejects(realNet.bindUdp(a.local, () => undefined, () => undefined),
    { code: 'EADDRINUSE' });
  const b = await realNet.bindUdp({ addr: LOCAL, port: 0 }, () => undefined, () => undefined);
  const arrived = new Promise<void>((resolve) => { wake = resolve; });
  b.send(new TextEncoder().encode('vote'), a.local);
  await arrived;
  t.same(got, [`vote from ${endpointString(b.local)}`]);
  await Promise.all([a.close(), b.close()]);
});
