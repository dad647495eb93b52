/**
 * The macro benchmark: scoutfs beside ext4 and beside an in-memory file system behind the
 * same FUSE channel.
 *
 * All subjects are mounted at once and take turns, round by round, so that whatever else the
 * machine does hits them alike; the table shows medians over the rounds. `memfs` is what the
 * transport costs; behind operations per second and median latency stand their ratios to it.
 * On a busy machine the latencies are the steadier of the two.
 *
 * Usage: node dist/bench/macro/index.js [--rounds 3] [--files 2000] [--seq-mib 64]
 *        [--procs 1,8] [--only memfs,ext4,scoutfs] [--json] [--ts-generator]
 *        [--scoutfs-mkfs 'WORDS'] [--scoutfs-mount 'WORDS'] [--scoutfs-umount 'WORDS']
 *
 * In WORDS the placeholders META, DATA, DIR and PORT are filled in. Needs root.
 */
import { execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Ext4Subject, MemSubject, ScoutfsSubject, Unavailable, ownCommands } from './subjects.js';
import type { Subject } from './subjects.js';

const here = fileURLToPath(new URL('.', import.meta.url));
const BASE = 'memfs';
/** A round of one subject that takes longer is stuck. */
const ROUND_TIMEOUT_MS = 300_000;

interface Phase {
  phase: string;
  ops: number;
  sec: number;
  p50us: number;
  p99us: number;
}

/** Results of one subject and process count: phase name to one entry per round. */
type Rounds = Map<string, Phase[]>;

const { values: opts } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    files: { type: 'string', default: '2000' },
    'seq-mib': { type: 'string', default: '64' },
    procs: { type: 'string', default: '1,8' },
    only: { type: 'string', default: 'memfs,ext4,scoutfs' },
    json: { type: 'boolean', default: false },
    'ts-generator': { type: 'boolean', default: false },
    'scoutfs-mkfs': { type: 'string' },
    'scoutfs-mount': { type: 'string' },
    'scoutfs-umount': { type: 'string' },
  },
});

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The command that makes load: the C program when there is a compiler. */
function generator(scratch: string): string[] {
  const binary = join(scratch, 'generator');
  const source = join(here, '../../../bench/macro/generator.c');
  if (!opts['ts-generator']) {
    try {
      execFileSync('cc', ['-O2', '-o', binary, source, '-pthread'], { stdio: 'pipe' });
      return [binary];
    } catch {
      say('generator: no C compiler, using Node (its own cost is in the numbers)');
    }
  }
  return [process.execPath, join(here, 'generator.js')];
}

function load(command: string[], dir: string, procs: number): Promise<Phase[]> {
  const [program = '', ...front] = command;
  // each process gets its share, so that runs take about as long with any number of them
  const share = (total: string): string => String(Math.max(1, Math.floor(Number(total) / procs)));
  const args = [...front, dir, String(procs), share(opts.files), share(opts['seq-mib'])];
  return new Promise((done, failed) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'],
      timeout: ROUND_TIMEOUT_MS, killSignal: 'SIGKILL' });
    let out = '';
    let err = '';
    child.stdout.on('data', (b: Buffer) => { out += b.toString(); });
    child.stderr.on('data', (b: Buffer) => { err += b.toString(); });
    child.once('error', failed);
    child.once('close', (code) => {
      if (code === 0) done(out.trim().split('\n').map((l) => JSON.parse(l) as Phase));
      else failed(new Error(err.trim().split('\n').at(-1) ?? `generator: ${String(code)}`));
    });
  });
}

function median(numbers: number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? NaN;
}

function rate(phases: Phase[] | undefined): number {
  return median((phases ?? []).map((p) => p.ops / p.sec));
}

function latency(phases: Phase[] | undefined): number {
  return median((phases ?? []).map((p) => p.p50us));
}

function quotient(a: number, b: number): string {
  return Number.isFinite(a / b) ? (a / b).toFixed(2) : '-';
}

function short(n: number): string {
  if (!Number.isFinite(n)) return '-';
  if (n >= 10_000) return `${(n / 1000).toFixed(0)} k`;
  return n >= 1000 ? `${(n / 1000).toFixed(1)} k` : n.toFixed(0);
}

function table(procs: number, subjects: string[], results: Map<string, Rounds>): string {
  const base = results.get(BASE);
  const phases = [...new Set([...results.values()].flatMap((r) => [...r.keys()]))];
  const head = ['phase', ...subjects.flatMap((s) => (s === BASE ? [`${s} ops/s`, 'p50 us']
    : [`${s} ops/s`, `/${BASE}`, 'p50 us', `/${BASE}`]))];
  const rows = phases.map((phase) => [phase, ...subjects.flatMap((s) => {
    const mine = results.get(s)?.get(phase);
    const theirs = base?.get(phase);
    const [ops, us] = [short(rate(mine)), mine === undefined ? '-' : latency(mine).toFixed(1)];
    return s === BASE ? [ops, us] : [ops, quotient(rate(mine), rate(theirs)),
      us, quotient(latency(mine), latency(theirs))];
  })]);
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map((r) => (r[i] ?? '').length)));
  const line = (r: string[]): string =>
    r.map((c, i) => (i === 0 ? c.padEnd(widths[i] ?? 0) : c.padStart(widths[i] ?? 0))).join('  ');
  return [`${procs} process${procs === 1 ? '' : 'es'}, medians of ${opts.rounds} rounds:`,
    ...all.map(line)].join('\n');
}

async function measure(procs: number, command: string[], mounted: [Subject, string][]):
Promise<Map<string, Rounds>> {
  const results = new Map<string, Rounds>(mounted.map(([s]) => [s.name, new Map()]));
  for (let round = 0; round < Number(opts.rounds); round++) {
    for (const [subject, dir] of mounted) {
      const rounds = results.get(subject.name);
      try {
        for (const p of await load(command, dir, procs)) {
          rounds?.set(p.phase, [...(rounds.get(p.phase) ?? []), p]);
        }
      } catch (e) {
        const why = e instanceof Error ? e.message : String(e);
        say(`${subject.name}: round ${round} failed: ${why}`);
      }
    }
  }
  return results;
}

function chosen(): Subject[] {
  const own = ownCommands();
  const words = (text: string | undefined, or: readonly string[]): readonly string[] =>
    text === undefined ? or : text.split(/\s+/);
  const all: Subject[] = [new MemSubject(), new Ext4Subject(), new ScoutfsSubject({
    mkfs: words(opts['scoutfs-mkfs'], own.mkfs), mount: words(opts['scoutfs-mount'], own.mount),
    umount: words(opts['scoutfs-umount'], own.umount),
  })];
  const names = opts.only.split(',');
  return all.filter((s) => names.includes(s.name));
}

async function main(): Promise<void> {
  const scratch = fs.mkdtempSync(join(tmpdir(), 'scoutfs-bench-'));
  const mounted: [Subject, string][] = [];
  try {
    const command = generator(scratch);
    for (const subject of chosen()) {
      const dir = join(scratch, subject.name);
      fs.mkdirSync(dir);
      try {
        await subject.start(dir, scratch);
        mounted.push([subject, dir]);
      } catch (e) {
        await subject.stop();
        if (!(e instanceof Unavailable)) throw e;
        say(`${subject.name}: left out: ${e.message}`);
      }
    }
    for (const procs of opts.procs.split(',').map(Number)) {
      const results = await measure(procs, command, mounted);
      process.stdout.write(opts.json
        ? `${JSON.stringify({ procs, results: [...results].map(([name, r]) =>
          ({ name, phases: Object.fromEntries(r) })) })}\n`
        : `${table(procs, mounted.map(([s]) => s.name), results)}\n\n`);
    }
  } finally {
    for (const [subject] of mounted) await subject.stop();
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

if (process.getuid?.() === 0) {
  await main();
} else {
  say('bench: needs root to mount');
  process.exitCode = 1;
}
