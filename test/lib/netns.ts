/**
 * Hosts of a cluster as network namespaces on this machine.
 *
 *   namespace h0 ── veth ──╮
 *   namespace h1 ── veth ──┼── bridge in a namespace of its own
 *   namespace h2 ── veth ──╯
 *
 * Only the network is apart: files, devices and processes are this machine's, and mounts are
 * seen by all, because commands enter the network namespace alone. `cut` takes a host's
 * cable out, or has a packet filter on the host drop what comes in, what goes out, or both;
 * `join` ends that. The filter differs from the cable: who sends is told EPERM. Without it
 * (`nft`, package nftables) the cable has to do. Needs root, `ip` (package iproute2) and
 * `nsenter` (util-linux); whoever has no right to make namespaces is told why.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from './clustermounts.js';
import { skipWithoutFuse } from './mounted.js';

const SUBNET = '10.77.0';
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
/** Name of the packet filter's table in a host's namespace. */
const TABLE = 'partition';

/** How a host is cut off: its cable is out, or its packet filter drops. */
export type Cut = 'cable' | 'both' | 'in' | 'out';

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

/** What a packet filter has to drop, by the hook and the name of the interface's field. */
const DROPS: Readonly<Record<Cut, readonly (readonly [string, string])[]>> = {
  cable: [], in: [['input', 'iifname']], out: [['output', 'oifname']],
  both: [['input', 'iifname'], ['output', 'oifname']],
};

/** Whether hosts can have packet filters here. */
export function havePacketFilter(): boolean {
  const name = `sct${process.pid}f`;
  if (spawnSync('ip', ['netns', 'add', name]).status !== 0) return false;
  const made = spawnSync('nsenter', [`--net=/run/netns/${name}`, 'nft', 'add', 'table', 'inet',
    TABLE]);
  spawnSync('ip', ['netns', 'del', name]);
  return made.status === 0;
}

export class NetHosts {
  readonly hosts: readonly Host[];
  private readonly hub = `sct${process.pid}-hub`;
  /** Hosts whose packet filter drops. */
  private readonly filtered = new Set<number>();

  /** @param dir has a run directory for each host */
  constructor(dir: string, private readonly count: number) {
    this.hosts = Array.from({ length: count }, (_, i) => {
      const runDir = join(dir, `run${i}`);
      mkdirSync(runDir, { recursive: true });
      return { addr: `${SUBNET}.${i + 1}`, runDir,
        prefix: ['nsenter', `--net=/run/netns/${this.name(i)}`] };
    });
    for (const s of SIGNALS) process.on(s, this.onSignal);
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

  /** Cuts the host off, until `join`. The loopback interface is left alone. */
  cut(i: number, how: Cut = 'cable'): void {
    if (how === 'cable') {
      ip('-n', this.hub, 'link', 'set', `port${i}`, 'down');
      return;
    }
    this.nft(i, `add table inet ${TABLE}`, ...DROPS[how].flatMap(([hook, field]) => [
      `add chain inet ${TABLE} ${hook} { type filter hook ${hook} priority 0; }`,
      `add rule inet ${TABLE} ${hook} ${field} eth drop`,
    ]));
    this.filtered.add(i);
  }

  join(i: number): void {
    ip('-n', this.hub, 'link', 'set', `port${i}`, 'up');
    if (this.filtered.delete(i)) this.nft(i, `delete table inet ${TABLE}`);
  }

  /** Commands for the packet filter of a host: all of them take effect, at once, or none. */
  private nft(i: number, ...commands: string[]): void {
    const r = spawnSync('nsenter', [`--net=/run/netns/${this.name(i)}`, 'nft', '-f', '-'],
      { encoding: 'utf8', input: commands.join('\n') });
    if (r.status !== 0) throw new Error(`nft: ${r.stderr.trim()}`);
  }

  /** A test that is ended from outside leaves no namespaces behind; whoever is last ends it. */
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.end();
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };

  end(): void {
    for (const s of SIGNALS) process.off(s, this.onSignal);
    for (const ns of [...this.hosts.map((_, i) => this.name(i)), this.hub]) {
      spawnSync('ip', ['netns', 'del', ns]);
    }
  }
}
