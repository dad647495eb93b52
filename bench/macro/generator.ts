/**
 * The load generator without a C compiler: the phases of `generator.c` in Node
 * processes, with the same output. Node's own cost per call (2 to 5 us) is in the numbers,
 * so compare only runs of the same generator.
 *
 * Usage: node generator.js DIR PROCS FILES SEQ_MIB
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { fileURLToPath } from 'node:url';

const SMALL = Buffer.alloc(4096, 'x');
const SEQ = Buffer.alloc(1 << 20, 'x');
const { O_CREAT, O_EXCL, O_TRUNC, O_WRONLY } = fs.constants;

interface Result {
  startNs: number;
  endNs: number;
  latenciesNs: number[];
}

function nowNs(): number {
  return Number(process.hrtime.bigint());
}

function put(name: string, data: Buffer | null): void {
  const fd = fs.openSync(name, O_CREAT | O_EXCL | O_WRONLY, 0o644);
  if (data !== null) fs.writeSync(fd, data);
  fs.closeSync(fd);
}

/** The phases in order; each calls `op` once per operation. */
function phasesOf(files: number, seqMib: number):
[string, (op: (fn: () => void) => void) => void][] {
  const each = (fn: (i: number) => void) => (op: (f: () => void) => void): void => {
    for (let i = 0; i < files; i++) op(() => { fn(i); });
  };
  const blocks = (flags: number | string, io: (fd: number) => void) =>
    (op: (f: () => void) => void): void => {
      const fd = fs.openSync('seq', flags, 0o644);
      for (let i = 0; i < seqMib; i++) op(() => { io(fd); });
      if (flags !== 'r') fs.fsyncSync(fd);
      fs.closeSync(fd);
    };
  const scratch = Buffer.alloc(1 << 20);
  return [
    ['create', each((i) => { put(`f${i}`, null); })],
    // every process drops the kernel's names and attributes; the first call finds them gone
    ['coldstat', (op) => {
      fs.writeFileSync('/proc/sys/vm/drop_caches', '2');
      each((i) => { fs.statSync(`f${i}`); })(op);
    }],
    ['stat', each((i) => { fs.statSync(`f${(i * 7919) % files}`); })],
    ['list', (op) => {
      for (const name of fs.readdirSync('.')) op(() => { fs.lstatSync(name); });
    }],
    ['rename', each((i) => { fs.renameSync(`f${i}`, `r${i}`); })],
    ['unlink', each((i) => { fs.unlinkSync(`r${i}`); })],
    ['write', each((i) => { put(`w${i}`, SMALL); })],
    ['read', each((i) => {
      const fd = fs.openSync(`w${i}`, 'r');
      fs.readSync(fd, scratch, 0, SMALL.length, 0);
      fs.closeSync(fd);
    })],
    ['seqwrite', blocks(O_CREAT | O_WRONLY | O_TRUNC, (fd) => { fs.writeSync(fd, SEQ); })],
    ['seqread', blocks('r', (fd) => { fs.readSync(fd, scratch); })],
    ['', (op) => {
      each((i) => { fs.unlinkSync(`w${i}`); })(op);
      fs.unlinkSync('seq');
    }],
  ];
}

function worker(dir: string, files: number, seqMib: number): void {
  fs.mkdirSync(dir);
  process.chdir(dir);
  const phases = phasesOf(files, seqMib);
  process.on('message', (nr: number) => {
    const phase = phases[nr];
    if (phase === undefined) {
      process.chdir('/');
      fs.rmdirSync(dir);
      process.disconnect();
      return;
    }
    const latenciesNs: number[] = [];
    const startNs = nowNs();
    phase[1]((fn) => {
      const t = nowNs();
      fn();
      latenciesNs.push(nowNs() - t);
    });
    process.send?.({ startNs, endNs: nowNs(), latenciesNs });
  });
  process.send?.('ready');
}

function answers(children: ChildProcess[]): Promise<unknown[]> {
  return Promise.all(children.map((c) => new Promise((done, failed) => {
    c.once('message', done);
    c.once('exit', () => { failed(new Error('a load process ended early')); });
  })));
}

async function lead(dir: string, procs: number, files: number, seqMib: number): Promise<void> {
  const self = fileURLToPath(import.meta.url);
  const children = Array.from({ length: procs }, (_, i) =>
    fork(self, ['worker', `${dir}/p${i}`, String(files), String(seqMib)]));
  await answers(children);
  const names = phasesOf(files, seqMib).map(([name]) => name);
  for (const [nr, name] of names.entries()) {
    const pending = answers(children);
    for (const c of children) c.send(nr);
    const results = await pending as Result[];
    if (name !== '') report(name, results);
  }
  for (const c of children) c.send(names.length);
}

function report(phase: string, results: Result[]): void {
  const all = results.flatMap((r) => r.latenciesNs).sort((a, b) => a - b);
  const at = (part: number): number => (all[Math.floor((all.length - 1) * part)] ?? 0) / 1000;
  const startNs = Math.min(...results.map((r) => r.startNs));
  const sec = (Math.max(...results.map((r) => r.endNs)) - startNs) / 1e9;
  process.stdout.write(`${JSON.stringify({
    phase, ops: all.length, sec, p50us: at(0.5), p99us: at(0.99) })}\n`);
}

const [first, ...rest] = process.argv.slice(2);
if (first === 'worker') {
  worker(rest[0] ?? '', Number(rest[1]), Number(rest[2]));
} else if (first === undefined || rest.length !== 3) {
  process.stderr.write('usage: generator DIR PROCS FILES SEQ_MIB\n');
  process.exitCode = 2;
} else {
  await lead(first, Number(rest[0]), Number(rest[1]), Number(rest[2]));
}
