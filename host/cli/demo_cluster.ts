/**
 * The demo of a cluster: N mounts of one volume on this host, each with a quorum slot at
 * an address of its own from 127.0.0.0/8, until Ctrl-C.
 *
 * It stays in the foreground because there is more to put away than one mount. Whatever
 * people tried meanwhile, at its end no mount and no process of it is left: a node that
 * cannot leave (nobody may be left to let it go) is forced after a while, or at the
 * second Ctrl-C. It also ends when all nodes were unmounted.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../env/clock.js';
import { unmountFuse } from '../env/fuse-mount.js';
import type { MountInfo } from '../env/rundir.js';
import { controlDirOf, detachControl, listMounts } from '../env/rundir.js';
import { sendSignal } from '../env/signal.js';
import { addrText } from '../disk/quorum_slots.js';
import type { SlotConfig } from '../disk/quorum_slots.js';
import { errnoError } from '../observe/errors.js';
import type { CommandIo } from './command.js';
import { waitForExit } from './daemon.js';
import { mountVolume } from './mount.js';

export const NODES_MAX = 15;
const LOCALHOST = 0x7f000001;
/** Many daemons share this machine; a demo needs no large caches. */
const OPTIONS = 'core_memory_mb=64';
const POLL_MS = 200;
/** How long nodes may take to commit and say farewell, and then to end when forced. */
const LEAVE_LIMIT_MS = 30_000;
const FORCE_LIMIT_MS = 5000;
/** A terminal and npm both deliver Ctrl-C: what follows so soon is the same one. */
const SAME_SIGNAL_MS = 1000;

interface DemoNode {
  nr: number;
  dir: string;
  address: string;
}

/** One slot per node: 127.0.0.1, 127.0.0.2, ... at the same port. */
export function demoSlots(nodes: number, port: number): SlotConfig[] {
  return Array.from({ length: nodes }, (_, nr) => ({ nr, addr: LOCALHOST + nr, port }));
}

class DemoCluster {
  private asked = 0;
  private askedMs = 0;
  private readonly nodes: DemoNode[];

  constructor(private readonly io: CommandIo, private readonly folder: string,
    slots: readonly SlotConfig[]) {
    this.nodes = slots.map((s) =>
      ({ nr: s.nr, dir: join(folder, `node${s.nr}`), address: `${addrText(s.addr)}:${s.port}` }));
  }

  async run(): Promise<void> {
    const [other] = this.alive();
    if (other !== undefined) {
      throw errnoError('EBUSY', `${other.mountPoint}: is mounted already (process ${
        other.pid}): another demo runs in this folder`);
    }
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    const stop = (): void => { this.ask(); };
    // Each daemon that starts listens for signals as well.
    process.setMaxListeners(2 * NODES_MAX);
    for (const s of signals) process.on(s, stop);
    try {
      await this.start();
      this.tell();
      while (this.asked === 0 && this.alive().length > 0) await this.clock.sleep(POLL_MS);
    } finally {
      await this.end();
      for (const s of signals) process.off(s, stop);
    }
  }

  private get clock(): Clock {
    return this.io.env.clock;
  }

  private ask(): void {
    const nowMs = this.clock.monotonicMs();
    if (this.asked > 0 && nowMs - this.askedMs < SAME_SIGNAL_MS) return;
    this.asked += 1;
    this.askedMs = nowMs;
  }

  /** All at once: the first one waits for a majority. @throws why one could not be mounted */
  private async start(): Promise<void> {
    const started = await Promise.allSettled(this.nodes.map((n) => this.mount(n)));
    for (const s of started) if (s.status === 'rejected' && this.asked === 0) throw s.reason;
  }

  private async mount(n: DemoNode): Promise<void> {
    fs.mkdirSync(n.dir, { recursive: true });
    await mountVolume(this.clock, {
      dataDevice: join(this.folder, 'data.img'), dir: n.dir,
      options: `metadev_path=${join(this.folder, 'meta.img')},quorum_slot_nr=${n.nr},${OPTIONS}`,
      foreground: false, logPath: join(this.folder, `node${n.nr}.log`), logLevel: 'info',
    });
  }

  /** The latest record of each node; dead ones included. */
  private records(): MountInfo[] {
    return listMounts().filter((m) => this.nodes.some((n) => n.dir === m.mountPoint));
  }

  private alive(): MountInfo[] {
    return this.records().filter((m) => m.alive);
  }

  private tell(): void {
    if (this.asked > 0) return;
    const mounts = this.alive();
    const pidOf = (n: DemoNode): number => mounts.find((m) => m.mountPoint === n.dir)?.pid ?? 0;
    const [first, second] = this.nodes;
    const last = this.nodes.at(-1);
    if (first === undefined || last === undefined) return;
    const lines = this.nodes.map((n) =>
      `    ${n.dir}   slot ${n.nr} at ${n.address}, process ${pidOf(n)}`);
    this.io.out(`
${this.nodes.length} nodes have mounted one volume:

${lines.join('\n')}

Try in another terminal, as root:

    npx scoutfs cluster                            # members, leader, what waits
    echo hello > ${first.dir}/file; cat ${(second ?? first).dir}/file
    kill -9 ${pidOf(last)}                                  # node ${last.nr} dies; the others go on
    tail -f ${join(this.folder, 'node*.log')}

Ctrl-C unmounts all of them. The volume stays in ${this.folder}.
`);
    this.io.result({
      folder: this.folder,
      nodes: this.nodes.map((n) => ({
        slot: n.nr, address: n.address, dir: n.dir, pid: pidOf(n),
        ident: mounts.find((m) => m.mountPoint === n.dir)?.ident ?? null,
      })),
    });
  }

  /** Unmounts what is mounted; nothing is left afterwards. */
  private async end(): Promise<void> {
    const mounts = this.records();
    const alive = mounts.filter((m) => m.alive);
    if (alive.length > 0) this.io.out(`unmounting ${alive.length} nodes`);
    const before = this.asked;
    await Promise.all(alive.map(async (m) => {
      // Somebody's working directory in it must not keep it.
      await unmountFuse(m.mountPoint, true).catch(() => undefined);
      if (!await this.hasLeft(m, before)) await this.force(m);
    }));
    for (const m of mounts) await detachControl(controlDirOf(m.ident));
    // Also those that died: of one that was fenced only its dead mount is left.
    for (const n of this.nodes) await unmountFuse(n.dir, true).catch(() => undefined);
  }

  /** Waits for a node's own end, until it takes too long or somebody insists. */
  private async hasLeft(m: MountInfo, before: number): Promise<boolean> {
    for (let waitedMs = 0; waitedMs < LEAVE_LIMIT_MS && this.asked <= Math.max(1, before);
      waitedMs += POLL_MS) {
      if (await waitForExit(this.clock, m, 0).then(() => true, () => false)) return true;
      await this.clock.sleep(POLL_MS);
    }
    return false;
  }

  private async force(m: MountInfo): Promise<void> {
    this.io.out(`${m.mountPoint}: cannot leave, ending it; the next start recovers`);
    sendSignal(m.pid, 'SIGUSR1');
    await waitForExit(this.clock, m, FORCE_LIMIT_MS).catch(async () => {
      sendSignal(m.pid, 'SIGKILL');
      await waitForExit(this.clock, m, FORCE_LIMIT_MS);
    });
  }
}

/** Runs until it is told to end. The volume of `slots` is in `folder` already. */
export async function runDemoCluster(io: CommandIo, folder: string,
  slots: readonly SlotConfig[]): Promise<void> {
  await new DemoCluster(io, folder, slots).run();
}
