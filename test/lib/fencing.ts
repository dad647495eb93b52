/**
 * Fencing of a cluster's hosts as in a machine room: `scoutfs fenced` runs on each of them, with
 * a configuration like upstream's, and has a power switch that everybody shares.
 *
 *   host 0: scoutfs fenced --run--> power-switch -+
 *   host 1: scoutfs fenced --run--> power-switch -+--> SIGKILL for the daemon that has the rid
 *   host 2: scoutfs fenced --run--> power-switch -+    in the run directory of the address
 *
 * The power switch is a shell script. It succeeds when that daemon is gone with all its
 * threads, also one that was stopped, or when no daemon of that host has the rid. Of each call
 * it writes down what it was given, and what it did. It reaches all hosts whatever their
 * networks do, because it is not on them.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { Host } from './clustermounts.js';
import { until } from './clustermounts.js';
import { Background, programPath } from './nodes.js';

/** Upstream's default is 2 s. */
const DELAY_SEC = 0.2;

/** One call of the power switch. */
export interface FenceCall {
  /** Number of the host whose `scoutfs fenced` made it. */
  by: number;
  /** The words of the configuration. */
  args: readonly string[];
  rid: string;
  addr: string;
  /** What it did; null while it is at work. */
  done: 'killed' | 'gone' | null;
}

/**
 * $1 is the file it writes to, $2 has a line `address run-directory` for each host. A process
 * is known by its number and start time; a zombie without other threads writes no more.
 */
const POWER_SWITCH = `#!/bin/sh
calls=$1 hosts=$2
rid=$SCOUTFS_FENCED_REQ_RID addr=$SCOUTFS_FENCED_REQ_IP
call=$$-$(date +%s%N)
note() { printf '%s\\n' "$call $1 $POWER_HOST $rid $addr $2" >> "$calls"; }
lives() {
  set -- "$1" "$2" $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)
  [ "\${22}" = "$2" ] || return 1
  [ "$3" != Z ] || [ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -gt 1 ]
}
note begins "$*"
run=$(sed -n "s|^$addr ||p" "$hosts")
[ -n "$run" ] || exit 3
did=gone
for record in "$run"/.mounts/*; do
  [ "$(cat "$record/rid" 2>/dev/null)" = "$rid" ] || continue
  read -r pid start < "$record/pid" || continue
  while lives "$pid" "$start"; do
    did=killed
    kill -KILL "$pid"
    sleep 0.02
  done
done
note ends "$did"
`;

export class Fencing {
  private constructor(private readonly callsPath: string,
    private readonly daemons: readonly Background[]) {}

  /** Starts the daemon of every host. @param dir gets script, configurations and notes */
  static async start(dir: string, hosts: readonly Host[]): Promise<Fencing> {
    fs.mkdirSync(dir, { recursive: true });
    const file = (name: string, text: string, mode = 0o644): string => {
      const path = join(dir, name);
      fs.writeFileSync(path, text, { mode });
      return path;
    };
    const script = file('power-switch', POWER_SWITCH, 0o755);
    const calls = file('calls', '');
    const table = file('hosts', hosts.map((h) => `${h.addr} ${h.runDir}\n`).join(''));
    const daemons = hosts.map((h, i) => startDaemon(h, file(`fenced${i}.conf`,
      `# Host ${i}\nSCOUTFS_FENCED_DELAY=${DELAY_SEC}\nSCOUTFS_FENCED_RUN=${script}\n`
      + `SCOUTFS_FENCED_RUN_ARGS="${calls} ${table}"\nexport POWER_HOST=${i}\n`)));
    const fencing = new Fencing(calls, daemons);
    await until(() => daemons.every((d) => d.out.includes('SCOUTFS_FENCED_RUN_ARGS')),
      'scoutfs fenced runs on every host');
    return fencing;
  }

  /** All calls of the power switch so far, in the order in which they began. */
  get calls(): FenceCall[] {
    const all = new Map<string, FenceCall>();
    for (const line of fs.readFileSync(this.callsPath, 'utf8').split('\n')) {
      const [id = '', what, by, rid = '', addr = '', ...words] = line.split(' ');
      if (what === 'begins') {
        all.set(id, { by: Number(by), rid, addr, args: words, done: null });
      }
      const call = all.get(id);
      if (what === 'ends' && call !== undefined) {
        call.done = words[0] === 'killed' ? 'killed' : 'gone';
      }
    }
    return [...all.values()];
  }

  /** The calls for one mount. */
  callsFor(rid: string): FenceCall[] {
    return this.calls.filter((c) => c.rid === rid);
  }

  /** What the daemons have complained of. */
  get complaints(): string[] {
    return this.daemons.flatMap((d) => d.err.split('\n').filter((l) => l !== ''));
  }

  /** What the daemon of a host has said. */
  said(host: number): string {
    return this.daemons[host]?.out ?? '';
  }

  /** Ends the daemons as an administrator does. @returns their exit statuses */
  async stop(): Promise<(number | null)[]> {
    for (const d of this.daemons) d.child.kill('SIGTERM');
    return Promise.all(this.daemons.map((d) => d.ended));
  }

  /** At the end of a test, whatever has happened. */
  end(): void {
    for (const d of this.daemons) d.child.kill('SIGKILL');
  }
}

function startDaemon(host: Host, config: string): Background {
  // It ends with this process, however that ends.
  const words = ['--pdeathsig', 'KILL', ...host.prefix, process.execPath,
    programPath('scoutfs-fenced'), '-c', config];
  return new Background(spawn('setpriv', words, { stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '', SCOUTFS_RUN_DIR: host.runDir } }));
}
