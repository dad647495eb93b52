/**
 * Many mounts, and mounting very often.
 *
 *   node dist/test/failover/many.js --mounts 24         # as many on this machine, with memory
 *   node dist/test/failover/many.js --cycles 1000       # mounted and unmounted in a row
 *
 * Nothing may be left of either: no process, mount, record or file, and no block of the volume
 * that is not accounted for. Ends with 1 when something is.
 */
import * as fs from 'node:fs';
import { parseArgs } from 'node:util';
import { ifProgram } from '../lib/program.js';
import { ClusterMounts, mountsBelow } from '../lib/clustermounts.js';
import { processesOf } from '../lib/mounted.js';

const MEMBERS = 3;
/** Mounts that start at the same time. */
const AT_ONCE = 4;
const MIB = 1024 ** 2;
/** Cycles after which everything that grows to a size has that size. */
const WARM_CYCLES = 3;
/** Metadata blocks by which a volume may differ between two moments at rest. */
const BLOCKS_SLACK = 64;
const TREE_BLOCKS = 4;

/** What of a cluster is on this machine when nothing is mounted. */
export function remains(cluster: ClusterMounts): string[] {
  const names = (dir: string): string[] => fs.existsSync(dir) ? fs.readdirSync(dir) : [];
  return [
    ...processesOf(cluster.dir), ...mountsBelow(cluster.dir),
    ...names(cluster.run).filter((n) => n !== '.mounts'),
    ...names(`${cluster.run}/.mounts`),
    ...names(cluster.dir).filter((n) => !/^(meta\.img|data\.img|run|mnt\d+|log\d+)$/.test(n)),
    ...cluster.nodes.flatMap((n) => fs.readdirSync(n.mnt).map((f) => `${n.mnt}/${f}`)),
    ...loopDevices(cluster.dir),
  ];
}

function loopDevices(dir: string): string[] {
  return fs.readdirSync('/sys/block').filter((b) => b.startsWith('loop')).flatMap((b) => {
    const file = `/sys/block/${b}/loop/backing_file`;
    return fs.existsSync(file) && fs.readFileSync(file, 'utf8').startsWith(`${dir}/`) ? [b] : [];
  });
}

export interface ManyResult {
  problems: string[];
  /** Memory of each daemon, and what they have beside shared pages. */
  rssBytes: number[];
  pssBytes: number[];
  mountMs: number;
}

function pssBytes(pid: number): number {
  const line = /^Pss:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
  return Number(line?.[1] ?? 0) * 1024;
}

/** So many mounts of one volume: each writes, all read what all wrote. */
export async function manyMounts(count: number): Promise<ManyResult> {
  const cluster = await ClusterMounts.make('many', { members: MEMBERS, clients: count - MEMBERS });
  const r: ManyResult = { problems: [], rssBytes: [], pssBytes: [], mountMs: 0 };
  try {
    const startMs = performance.now();
    // the members first: only together they can elect
    await Promise.all(cluster.nodes.slice(0, MEMBERS).map((n) => n.mount()));
    for (let i = MEMBERS; i < count; i += AT_ONCE) {
      await Promise.all(cluster.nodes.slice(i, i + AT_ONCE).map((n) => n.mount()));
    }
    r.mountMs = performance.now() - startMs;
    for (const n of cluster.nodes) {
      fs.mkdirSync(n.p(`d${n.nr}`));
      fs.writeFileSync(n.p(`d${n.nr}`, 'f'), `${n.nr}`.repeat(10_000));
    }
    for (const n of cluster.nodes) {
      for (const o of cluster.nodes) {
        const text = fs.readFileSync(n.p(`d${o.nr}`, 'f'), 'utf8');
        if (text === `${o.nr}`.repeat(10_000)) continue;
        r.problems.push(`node ${n.nr} reads other of ${o.nr}`);
      }
      if (fs.readdirSync(n.mnt).length !== count) r.problems.push(`node ${n.nr} lists others`);
    }
    r.rssBytes = cluster.nodes.map((n) => n.rssBytes);
    r.pssBytes = cluster.nodes.map((n) => pssBytes(n.pid));
    for (let i = MEMBERS; i < count; i += AT_ONCE) {
      await Promise.all(cluster.nodes.slice(i, i + AT_ONCE).map((n) => n.umount()));
    }
    await cluster.umountAll();
    r.problems.push(...remains(cluster), ...await cluster.check(), ...cluster.complaints());
    return r;
  } finally {
    await cluster.end();
  }
}

/** Mounts and unmounts one volume so often. @returns what is left, or has grown */
export async function cycles(count: number, told: (nr: number) => void = () => undefined):
Promise<string[]> {
  const cluster = await ClusterMounts.make('cycles', { members: 1 });
  const problems: string[] = [];
  const n = cluster.node(0);
  const used = async (): Promise<{ used: number; clients: number; trees: number }> => {
    const { findings, summary } = await cluster.checkReport();
    problems.push(...findings.map((f) => f.message));
    return { used: summary.usedMetaBlocks, clients: summary.mountedClients,
      trees: summary.logTrees };
  };
  try {
    let early: Awaited<ReturnType<typeof used>> | null = null;
    for (let i = 0; i < count && problems.length === 0; i++) {
      await n.mount();
      fs.writeFileSync(n.p(`f${i}`), 'x'.repeat(5000));
      if (i > 0) fs.unlinkSync(n.p(`f${i - 1}`));
      await n.umount();
      problems.push(...remains(cluster));
      if (i === WARM_CYCLES - 1) early = await used();
      told(i);
    }
    const late = await used();
    if (late.clients !== 0) problems.push(`${late.clients} mounted clients`);
    // each mount leaves a finished log tree of a few blocks, which is there until the next merge
    const left = early === null ? 0 : Math.max(0, late.trees - early.trees);
    if (early !== null && late.used > early.used + BLOCKS_SLACK + TREE_BLOCKS * left) {
      problems.push(`${early.trees} log trees and ${early.used} used blocks became ${
        late.trees} and ${late.used}`);
    }
    problems.push(...cluster.complaints());
    return problems;
  } finally {
    await cluster.end();
  }
}

export function mib(bytes: number): number {
  return Math.round(bytes / MIB);
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: {
    mounts: { type: 'string', default: '0' }, cycles: { type: 'string', default: '0' },
  } });
  const problems: string[] = [];
  if (Number(values.mounts) > 0) {
    const r = await manyMounts(Number(values.mounts));
    problems.push(...r.problems);
    const sum = (a: readonly number[]): number => a.reduce((x, y) => x + y, 0);
    console.log(`${r.rssBytes.length} mounts after ${Math.round(r.mountMs)} ms: resident ${
      mib(Math.max(...r.rssBytes))} MiB at most, ${mib(sum(r.pssBytes))} MiB in all without ` +
      'counting shared pages twice');
  }
  if (Number(values.cycles) > 0) {
    const startMs = performance.now();
    problems.push(...await cycles(Number(values.cycles), (i) => {
      if (i % 50 === 49) process.stderr.write(`${i + 1} cycles\n`);
    }));
    console.log(`${values.cycles} mounts and unmounts in ${
      Math.round((performance.now() - startMs) / 1000)} s`);
  }
  for (const p of problems) console.log(p);
  return problems.length === 0 ? 0 : 1;
}

ifProgram(import.meta.url, main);
