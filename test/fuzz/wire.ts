/**
 * The fuzzer of protocols: hostile clients, servers and election datagrams, seed by seed.
 *
 *   node dist/test/fuzz/wire.js --from 1 --count 500            many of each side
 *   node dist/test/fuzz/wire.js --side quorum --seed 7 --verbose    one case, told step by step
 *
 * Sides are `server` (a client is hostile), `client` (a server is) and `quorum`. A seed is a
 * world of its own that takes some thousand messages. Cases run under a supervisor, as those
 * of volumes.ts. Ends with 1 when any case failed.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { collectUnhandled, supervise, tellSupervisor } from './supervisor.js';
import type { Told } from './supervisor.js';
import type { WireResult } from './wire/result.js';
import { fuzzClient } from './wire/client_case.js';
import { fuzzQuorum } from './wire/quorum_case.js';
import { fuzzServer } from './wire/server_case.js';

type Run = (seed: number, say: (line: string) => void) => Promise<WireResult>;

const SIDES: Readonly<Record<string, Run>> = {
  server: fuzzServer, client: fuzzClient, quorum: fuzzQuorum,
};
export const SIDE_NAMES: readonly string[] = Object.keys(SIDES);
const PROGRESS_CASES = 50;

export interface WireTotals {
  cases: number;
  messages: number;
  refused: number;
  closed: number;
  tookMs: number;
  maxRssBytes: number;
  failures: { seed: number; what: string }[];
}

/** Runs cases of one side in a process of their own. `say` gets failures and progress. */
export async function fuzzWire(side: string, from: number, count: number,
  say: (line: string) => void, seconds = Infinity): Promise<WireTotals> {
  const t: WireTotals = {
    cases: 0, messages: 0, refused: 0, closed: 0, tookMs: 0, maxRssBytes: 0, failures: [],
  };
  const began = performance.now();
  const failed = (seed: number, what: string): void => {
    t.failures.push({ seed, what });
    say(`FAIL ${side} seed ${seed}: ${what}\n  node dist/test/fuzz/wire.js --side ${side} --seed ${
      seed} --verbose`);
  };
  t.maxRssBytes = await supervise<WireResult>({
    script: fileURLToPath(import.meta.url), args: ['--side', side], from, count, seconds, failed,
    ended: (seed, r) => {
      t.cases += 1;
      t.messages += r.messages;
      t.refused += r.refused;
      t.closed += r.closed;
      t.tookMs = performance.now() - began;
      if (r.failure !== null) failed(seed, r.failure);
      if (t.cases % PROGRESS_CASES === 0) say(totalsText(side, t));
    },
  });
  return t;
}

export function totalsText(side: string, t: WireTotals): string {
  const perSec = Math.round(t.messages / Math.max(t.tookMs, 1) * 1000);
  return `${side}: ${t.cases} cases, ${t.failures.length} failures; ${t.messages} messages, ${
    t.refused} refused, ${t.closed} closed their connection; ${perSec} messages/s, most memory ${
    Math.round(t.maxRssBytes / 1048576)} MiB`;
}

/** The cases of one process, told to whoever started it. */
async function work(side: string, from: number, count: number,
  tell: (m: Told<WireResult>) => Promise<void>, say: (line: string) => void): Promise<void> {
  const run = SIDES[side];
  if (run === undefined) throw new Error(`no side ${side} (${SIDE_NAMES.join(', ')})`);
  const unhandled = collectUnhandled();
  for (let seed = from; seed < from + count; seed++) {
    await tell({ type: 'begin', seed });
    unhandled.length = 0;
    const result = await run(seed, say);
    await new Promise((resolve) => { setImmediate(resolve); });
    if (unhandled[0] !== undefined) result.failure ??= `nobody handles: ${unhandled[0]}`;
    await tell({ type: 'end', seed, result });
  }
}

async function main(): Promise<void> {
  const { values: v } = parseArgs({ options: {
    seed: { type: 'string' }, verbose: { type: 'boolean' }, worker: { type: 'boolean' },
    from: { type: 'string', default: '1' }, count: { type: 'string', default: '100' },
    seconds: { type: 'string' }, side: { type: 'string' },
  } });
  const say = (line: string): void => { process.stdout.write(`${line}\n`); };
  const silent = (): void => undefined;
  const sides = v.side === undefined ? SIDE_NAMES : [v.side];
  if (v.worker === true) {
    process.on('disconnect', () => { process.exit(1); });
    await work(sides[0] ?? '', Number(v.from), Number(v.count), tellSupervisor, silent);
    process.exit(0);
  }
  let failures = 0;
  for (const side of sides) {
    if (v.seed !== undefined) {
      await work(side, Number(v.seed), 1, (m) => {
        if (m.type === 'end') {
          failures += m.result.failure === null ? 0 : 1;
          say(`${side} ${JSON.stringify({ ...m.result, failure: undefined })} ${
            m.result.failure === null ? 'ok' : `FAIL ${m.result.failure}`}`);
        }
        return Promise.resolve();
      }, v.verbose === true ? say : silent);
    } else {
      const t = await fuzzWire(side, Number(v.from), Number(v.count), say,
        v.seconds === undefined ? Infinity : Number(v.seconds));
      say(totalsText(side, t));
      failures += t.failures.length;
    }
  }
  process.exit(failures === 0 ? 0 : 1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
