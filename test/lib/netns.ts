/**
 * Hosts of a cluster as network namespaces on this machine.
 *
 *   namespace h0 ── veth ──╮
 *   namespace h1 ── veth ──┼── bridge in a namespace of its own
 *   namespace h2 ── veth ──╯
 *
 * Only the network is apart: files, devices and processes are this machine's, and mounts are
 * seen by all, because commands enter the network namespace alone. `cut` takes a host's
 * cable out, `join` puts it back. Needs root, `ip` (package iproute2) and `nsenter`
 * (util-linux); whoever has no right to make namespaces is told why.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from './clustermounts.js';
import { skipWithoutFuse } from './mounted.js';

const SUBNET = '10.77.0';

/** For tap's `skip`: false when hosts can be made here, else the reason. */
export function skipWithoutNetns(): false | string {
  const fuse = skipWithoutFuse();
  if (fuse !== false) return fuse;
  if (spawnSync('ip', ['-V']).error !== undefined) return 'no ip (package iproute2)';
  if (spawnSync('nsenter', ['-V']).error !== undefined) return 'no nsenter (package util-linux)';
  const name = `sct${process.pid}`;
  const made = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8' });
  if (made.status !== 0) return `no network namespaces here: ${made.stderr.trim()}`;
  const link = spawnSync('ip', ['-n', name, 'link', 'add', 'name', 'br0', 'type', 'bridge'],
    { encoding: 'utf8' });
  spawnSync('ip', ['netns', 'del', name]);
  return link.status === 0 ? false : `no bridges here: ${link.stderr.trim()}`;
}

function ip(...words: string[]): void {
  const r = spawnSync('ip', words, { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`ip ${words.join(' ')}: ${r.stderr.trim()}`);
}

export class NetHosts {
  readonly hosts: readonly Host[];
  private readonly hub = `sct${process.pid}-hub`;

  /** @param dir has a run directory for each host */
  constructor(dir: string, private readonly count: number) {
    this.hosts = Array.from({ length: count }, (_, i) => {
      const runDir = join(dir, `run${i}`);
      mkdirSync(runDir, { recursive: true });
      return { addr: `${SUBNET}.${i + 1}`, runDir,
        prefix: ['nsenter', `--net=/run/netns/${this.name(i)}`] };
    });
    try {
      this.make();
    } catch (e) {
      this.end();
      throw e;
    }
  }

  private name(i: number): string {
    return `sct${process.pid}-h${i}`;
  }

  private make(): void {
    ip('netns', 'add', this.hub);
    ip('-n', this.hub, 'link', 'add', 'name', 'br0', 'type', 'bridge');
    ip('-n', this.hub, 'link', 'set', 'br0', 'up');
    for (let i = 0; i < this.count; i++) {
      const ns = this.name(i);
      ip('netns', 'add', ns);
      ip('-n', ns, 'link', 'set', 'lo', 'up');
      ip('-n', ns, 'link', 'add', 'name', 'eth', 'type', 'veth', 'peer', 'name', `port${i}`,
        'netns', this.hub);
      ip('-n', this.hub, 'link', 'set', `port${i}`, 'master', 'br0', 'up');
      ip('-n', ns, 'addr', 'add', `${SUBNET}.${i + 1}/24`, 'dev', 'eth');
      ip('-n', ns, 'link', 'set', 'eth', 'up');
    }
  }

  /** Nothing reaches the host, and nothing leaves it. */
  cut(i: number): void {
    ip('-n', this.hub, 'link', 'set', `port${i}`, 'down');
  }

  join(i: number): void {
    ip('-n', this.hub, 'link', 'set', `port${i}`, 'up');
  }

  end(): void {
    for (const ns of [...this.hosts.map((_, i) => this.name(i)), this.hub]) {
      spawnSync('ip', ['netns', 'del', ns]);
    }
  }
}
