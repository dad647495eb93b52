/**
 * What is known of a cluster in which an operation does not end: whether the others get on,
 * what they are at, which locks are waited for, and how all of it looks a little later.
 */
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClusterMounts } from '../lib/clustermounts.js';

/** Long enough for anything that moves to have moved. */
const LATER_MS = 3000;
const IDLE_LOCK = /waiters: rd 0 wr 0 wo 0 users: rd 0 wr 0 wo 0$/;

/** One process at work: what it does, for how long, and its operations so far. */
export interface AtWork {
  worker: number;
  pid: number;
  what: string;
  forMs: number;
  ops: number;
}

/** Two looks at everything, with the operations between them. */
export async function hangReport(cluster: ClusterMounts, workers: () => AtWork[]):
Promise<string[]> {
  const first = workers();
  const lines = [...locks(cluster), ...stacks(first)];
  await sleep(LATER_MS);
  const later = workers();
  const before = new Map(first.map((w) => [w.pid, w.ops]));
  const done = later.reduce((n, w) => n + w.ops - (before.get(w.pid) ?? w.ops), 0);
  return [...lines, `${LATER_MS} ms later, ${done} operations have ended:`, ...locks(cluster)];
}

/** Processes that are at something, the longest first, with where they are in the kernel. */
function stacks(all: readonly AtWork[]): string[] {
  return all.filter((w) => w.what !== '').sort((a, b) => b.forMs - a.forMs)
    .map((w) => `worker ${w.worker} ${w.what} for ${w.forMs} ms: ${stackOf(w.pid)}`);
}

function stackOf(pid: number): string {
  try {
    return fs.readFileSync(`/proc/${pid}/stack`, 'utf8').split('\n')
      .map((l) => l.replace(/^\[<0>\] /, '').replace(/\+.*/, '')).slice(0, 9).join(' ');
  } catch {
    return 'no stack';
  }
}

/** Who waits for which lock, what the server knows of those, and all other waits. */
function locks(cluster: ClusterMounts): string[] {
  const wanted = new Set<string>();
  const here = cluster.nodes.flatMap((n) => {
    const all = n.show('debug', 'client_locks').split('\n').filter((l) => l !== '');
    for (const l of all) if (!IDLE_LOCK.test(l)) wanted.add(startOf(l));
    return all.map((l) => `mount ${n.nr} (${n.rid}): ${l}`);
  }).filter((l) => wanted.has(startOf(l)));
  const { leader } = cluster;
  const there = leader?.show('debug', 'server_locks').split('\n') ?? [];
  const waits = cluster.nodes.flatMap((n) => n.show('debug', 'pending').split('\n')
    .filter((l) => l !== '').map((l) => `mount ${n.nr}: ${l}`));
  return [
    ...here, `server (mount ${leader?.nr ?? 'none'}):`,
    ...there.filter((l) => wanted.has(l.split(' ')[0] ?? '')), ...waits,
  ];
}

/** The first key of a lock, by which it is known. */
function startOf(line: string): string {
  return /start (\S+)/.exec(line)?.[1] ?? '';
}
