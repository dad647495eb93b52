/**
 * Requests that a mount be cut off from the devices.
 *
 *   created --agent says done--> fenced --reclaimed--> removed
 *      |--agent failed, or 30 s--> error (the server stops)
 *
 * A rid has at most one request; asking again for whatever reason changes nothing.
 * Neither flag is ever cleared. Requests go with the server: whoever serves next
 * creates them again from what is on the device.
 *
 * The local agent answers for mounts of this host by itself: a daemon of ours that has
 * left its run directory behind, or that is killed and then gone, can no longer write;
 * nor can one that nobody knows, once no unknown process has the device open for writing.
 * Everything else is left to the administrator's agent. Source: recovery.md 3.
 */
import type { Clock, TimerHandle } from '../env/clock.js';
import type { LocalMounts } from '../env/local_mounts.js';
import { ipv4String } from '../env/net.js';
import { ScoutfsError } from '../observe/errors.js';
import { hex16 } from '../observe/log.js';
import type { Pending } from '../observe/pending.js';

/** How long an agent may take for one request. */
export const FENCE_TIMEOUT_MS = 30_000;
/** How often the local agent looks at an unclear state before it leaves it to others. */
const UNCLEAR_PAUSES = 80;

export type FenceReason = 'client_recovery' | 'client_reconnect' | 'quorum_block_leader';

/** What the agent sees of a request. */
export interface FenceView {
  rid: bigint;
  ipv4Addr: number;
  reason: FenceReason;
  elapsedSecs: number;
  fenced: boolean;
  error: boolean;
}

/** Cuts off mounts of this host. */
export interface LocalFenceAgent {
  /** `fenced` only when that mount certainly cannot write any more. */
  fence(rid: bigint, ipv4Addr: number): Promise<'fenced' | 'not-local'>;
  /** Everything of that mount was given back: it need not be remembered. */
  reclaimed(rid: bigint): void;
}

interface Request {
  rid: bigint;
  ipv4Addr: number;
  reason: FenceReason;
  createdMs: number;
  fenced: boolean;
  error: boolean;
  timer: TimerHandle;
}

export class FenceRequests {
  private readonly requests = new Map<bigint, Request>();

  /** `changed` is called after every change, with the rid it was about. */
  constructor(private readonly clock: Clock, private readonly local: LocalFenceAgent | null,
    private readonly changed: (rid: bigint) => void) {}

  /** Asks for a mount to be fenced; without effect if that is asked for already. */
  create(rid: bigint, ipv4Addr: number, reason: FenceReason): void {
    if (this.requests.has(rid)) return;
    const timer = this.clock.after(FENCE_TIMEOUT_MS, () => { this.setError(rid); });
    this.requests.set(rid, {
      rid, ipv4Addr, reason, createdMs: this.clock.monotonicMs(), fenced: false, error: false,
      timer,
    });
    this.changed(rid);
    this.local?.fence(rid, ipv4Addr).then((r) => {
      if (r === 'fenced') this.setFenced(rid);
    }, () => undefined);
  }

  setFenced(rid: bigint): void {
    const r = this.requests.get(rid);
    if (r === undefined || r.fenced) return;
    r.fenced = true;
    r.timer.cancel();
    this.changed(rid);
  }

  setError(rid: bigint): void {
    const r = this.requests.get(rid);
    if (r === undefined || r.error) return;
    r.error = true;
    this.changed(rid);
  }

  /** The mount was reclaimed. */
  remove(rid: bigint): void {
    if (this.drop(rid)) this.local?.reclaimed(rid);
  }

  /** The server stops. */
  removeAll(): void {
    for (const rid of [...this.requests.keys()]) this.drop(rid);
  }

  private drop(rid: bigint): boolean {
    const r = this.requests.get(rid);
    if (r === undefined) return false;
    r.timer.cancel();
    this.requests.delete(rid);
    this.changed(rid);
    return true;
  }

  has(rid: bigint): boolean {
    return this.requests.has(rid);
  }

  /** A rid that is fenced and waits to be reclaimed. */
  nextFenced(): bigint | null {
    for (const r of this.requests.values()) if (r.fenced && !r.error) return r.rid;
    return null;
  }

  /** Has any request failed? */
  get failed(): boolean {
    return [...this.requests.values()].some((r) => r.error);
  }

  /** The requests that are not answered. */
  pending(): Pending[] {
    return [...this.requests.values()].filter((r) => !r.fenced).map((r) => ({
      kind: 'fence', sinceMs: r.createdMs,
      text: `rid ${hex16(r.rid)} addr ${ipv4String(r.ipv4Addr)} reason ${r.reason}${
        r.error ? ' error' : ''}`,
    }));
  }

  list(): FenceView[] {
    const nowMs = this.clock.monotonicMs();
    return [...this.requests.values()].map((r) => ({
      rid: r.rid, ipv4Addr: r.ipv4Addr, reason: r.reason, fenced: r.fenced, error: r.error,
      elapsedSecs: Math.floor((nowMs - r.createdMs) / 1000),
    }));
  }

  /**
   * Waits until every request is fenced. `stopped` ends the wait early.
   * @throws ETIMEDOUT after `timeoutMs`, EIO when one failed
   */
  async allFenced(timeoutMs: number, stopped: () => boolean): Promise<void> {
    const endMs = this.clock.monotonicMs() + timeoutMs;
    const pollMs = 20;
    for (;;) {
      const waiting = [...this.requests.values()].filter((r) => !r.fenced);
      const failed = [...this.requests.values()].find((r) => r.error);
      if (failed !== undefined) throw this.failure('EIO', failed, 'the fence agent failed for');
      const [first] = waiting;
      if (first === undefined || stopped()) return;
      if (this.clock.monotonicMs() >= endMs) {
        throw this.failure('ETIMEDOUT', first, `not fenced within ${timeoutMs / 1000} s:`);
      }
      await this.clock.sleep(pollMs);
    }
  }

  private failure(errno: 'ETIMEDOUT' | 'EIO', r: Request, what: string): ScoutfsError {
    return new ScoutfsError('FENCE_FAILED', errno, {
      message: `${what} mount ${r.rid.toString(16)} at ${ipv4String(r.ipv4Addr)}`,
    });
  }
}

/** The agent for this host: a mount at an address of ours that nothing here serves is gone. */
export function localFenceAgent(host: LocalMounts): LocalFenceAgent {
  return {
    async fence(rid, ipv4Addr) {
      if (!host.isLocal(ipv4Addr)) return 'not-local';
      let state = host.stateOf(rid);
      for (let n = 0; state === 'unclear' && n < UNCLEAR_PAUSES; n++) {
        await host.pause();
        state = host.stateOf(rid);
      }
      if (state === 'gone') return 'fenced';
      return state === 'running' && await host.kill(rid) ? 'fenced' : 'not-local';
    },
    reclaimed(rid) { host.forget(rid); },
  };
}
