/**
 * The connection fed with what no well-behaved peer sends, and with what it sends in
 * pieces of any size.
 */
import t from 'tap';
import * as fc from 'fast-check';
import type { TcpSocket } from '../../host/env/net.js';
import * as F from '../../host/core/format.js';
import { FramedSocket } from '../../host/net/frame.js';
import type { Header } from '../../host/net/messages.js';
import { COMMANDS, HEADER_BYTES, encodeMessage, viewOf } from '../../host/net/messages.js';
import { NetServer } from '../../host/net/net_server.js';
import { payloadCodec } from '../../host/net/payloads.js';
import { Counters } from '../../host/observe/counters.js';
import { ScoutfsError } from '../../host/observe/errors.js';
import { SimClock, settle } from '../lib/simclock.js';
import { SimNet } from '../lib/simnet.js';

const SEED = 19700;

interface Ends {
  near: Awaited<ReturnType<SimNet['connectFrom']>>;
  far: TcpSocket;
}

async function socketPair(): Promise<Ends> {
  const net = new SimNet();
  const accepted: TcpSocket[] = [];
  await net.listen({ addr: 1, port: 1 }, 0, (s) => { accepted.push(s); });
  const near = await net.connectFrom({ addr: 2, port: 2 }, { addr: 1, port: 1 });
  const [far] = accepted;
  if (far === undefined) throw new Error('not accepted');
  return { near, far };
}

const message = fc.record({
  seq: fc.integer({ min: 1, max: 2 ** 40 }), recvSeq: fc.nat(1000),
  id: fc.integer({ min: 1, max: 2 ** 40 }), cmd: fc.integer({ min: 1, max: 19 }),
  response: fc.boolean(), error: fc.constant(0), payload: fc.uint8Array({ maxLength: 1100 }),
});

t.test('messages arrive as they were sent, however the stream is cut', async (t) => {
  await fc.assert(fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 8 }),
    fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 30 }),
    async (messages, cuts) => {
      const { near, far } = await socketPair();
      const got: { header: Header; payload: number[] }[] = [];
      new FramedSocket(far, 'server', new Counters(), {
        message: (header, payload) => { got.push({ header, payload: [...payload] }); },
        closed: () => undefined,
      }).start();
      const stream = Buffer.concat(messages.map((m) => encodeMessage(m, m.payload)));
      for (let at = 0, i = 0; at < stream.length; i++) {
        const n = cuts[i % cuts.length] ?? 1;
        near.write(new Uint8Array(stream.subarray(at, at + n)));
        at += n;
      }
      await settle();
      t.same(got.map((g) => ({ ...g.header, payload: g.payload })),
        messages.map((m) => ({ ...m, dataLen: m.payload.length, payload: [...m.payload] })));
    }), { numRuns: 60, seed: SEED });
});

t.test('a pause holds everything back in order', async (t) => {
  const { near, far } = await socketPair();
  const got: number[] = [];
  const framed: FramedSocket = new FramedSocket(far, 'server', new Counters(), {
    message: (h) => {
      got.push(h.seq);
      if (h.seq === 2) framed.pause();
    },
    closed: () => undefined,
  });
  framed.start();
  for (let seq = 1; seq <= 4; seq++) {
    near.write(encodeMessage({ seq, recvSeq: 0, id: 1, cmd: 5, response: false, error: 0 },
      new Uint8Array(0)));
  }
  await settle();
  t.same(got, [1, 2]);
  framed.resume();
  await settle();
  t.same(got, [1, 2, 3, 4]);
});

t.test('nothing a stranger sends harms the server', async (t) => {
  const clock = new SimClock();
  const net = new SimNet();
  const told: string[] = [];
  const server = new NetServer(clock, { fsid: 1n, fmtVers: 2, term: 7 }, {
    isMounted: () => Promise.resolve(false),
    record: async () => { told.push('record'); },
    greeted: () => { told.push('greeted'); },
    request: () => { told.push('request'); },
    lost: () => { told.push('lost'); },
  });
  await net.listen({ addr: 1, port: 1 }, 0, (s) => { server.accept(s); });
  const junk = fc.oneof(fc.uint8Array({ maxLength: 200 }),
    fc.uint8Array({ minLength: HEADER_BYTES, maxLength: 1200 }).map((bytes) => {
      // A header that passes as far as possible.
      const v = viewOf(bytes);
      v.setBigUint64(0, 1n, true);
      v.setBigUint64(16, 1n, true);
      v.setUint16(24, v.getUint16(24, true) % 1101, true);
      bytes[26] = (bytes[26] ?? 0) % 20;
      bytes[27] = 0;
      bytes[28] = 0;
      return bytes;
    }));
  await fc.assert(fc.asyncProperty(fc.array(junk, { minLength: 1, maxLength: 4 }),
    async (pieces) => {
      const socket = await net.connectFrom({ addr: 2, port: 2 }, { addr: 1, port: 1 });
      socket.start({ data: () => undefined, closed: () => undefined });
      for (const p of pieces) socket.write(p);
      await settle();
      socket.destroy();
      await settle();
    }), { numRuns: 300, seed: SEED });
  await clock.advance(60_000);
  t.same(told, []);
  t.equal(server.clientCount, 0);
});

t.test('payloads of the right length decode or are refused with an error of ours', async (t) => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 19 }), fc.boolean(), fc.boolean(),
    fc.uint8Array({ minLength: 1100, maxLength: 1100 }), (cmd, fromClient, response, bytes) => {
      const codec = payloadCodec(cmd, fromClient, response, 0);
      if (codec === null) return;
      const size = codec.size >= 0 ? codec.size : 8 + 48 * 3;
      if (codec.size < 0) viewOf(bytes).setUint16(0, 3, true);
      try {
        codec.read(viewOf(bytes.subarray(0, size)), 0);
      } catch (e) {
        if (!(e instanceof ScoutfsError)) throw e;
      }
    }), { numRuns: 2000, seed: SEED });
  t.ok(COMMANDS.length === F.NET_CMD_UNKNOWN);
});
