/**
 * What a member makes of a network that works in one direction only.
 *
 * A member that hears nobody but is heard would be the end of every leader: its votes are
 * asked for in ever higher terms, which the others adopt, and it never hears that they have
 * elected somebody. The device tells: an election in or after the term in which it began to
 * stand, of which it heard nothing, shows that others do without it. Then it stands no more
 * until it hears somebody, or a minute has passed; by then it has been fenced.
 *
 * A leader that hears nobody but is heard keeps the others from electing another one. They
 * notice that it takes no connections; `reach` tells whether that is the leader's network or
 * one's own: any other member that answers, if only by refusing, shows that ours is well.
 *
 * Upstream has neither. Spec: quorum.md 5.2, 10 (timeouts may be longer).
 */
import type { Endpoint, Net } from '../env/net.js';
import { asScoutfsError } from '../observe/errors.js';
import type { Pending } from '../observe/pending.js';

/** Longer than what a new leader waits for the clients of the last one, and their fencing. */
export const DEAF_PAUSE_MS = 60_000;
/** A member deposes a leader that it cannot reach so often at most. */
export const DEPOSE_PAUSE_MS = 60_000;
const REACH_TIMEOUT_MS = 1000;

/** Somebody's election, as the device shows it. */
export interface Election {
  slot: number;
  term: number;
}

export class Hearing {
  /** Before this time the member does not stand. */
  standAtMs = 0;
  /** Of the first election of ours since somebody was heard; 0 before it. */
  private firstTerm = 0;
  private deafSinceMs: number | null = null;
  /** The election of others that began the pause; null without a pause. */
  private missed: Election | null = null;

  /** A member was heard. @returns whether that ends a pause */
  heard(): boolean {
    const paused = this.missed !== null;
    this.firstTerm = 0;
    this.standAtMs = 0;
    this.missed = null;
    this.deafSinceMs = null;
    return paused;
  }

  /** An election of ours begins. */
  stood(term: number): void {
    if (this.firstTerm === 0) this.firstTerm = term;
    this.missed = null;
  }

  /** Nobody was heard since an election of ours, and no pause has followed it. */
  get isSilent(): boolean {
    return this.firstTerm !== 0 && this.missed === null;
  }

  /** `latest` is the last election of another slot. @returns whether a first pause begins */
  look(nowMs: number, latest: Election | null): boolean {
    if (!this.isSilent || latest === null || latest.term < this.firstTerm) return false;
    this.missed = latest;
    this.standAtMs = nowMs + DEAF_PAUSE_MS;
    if (this.deafSinceMs !== null) return false;
    this.deafSinceMs = nowMs;
    return true;
  }

  pending(): Pending[] {
    const { missed, deafSinceMs } = this;
    return missed === null ? [] : [{ kind: 'member', sinceMs: deafSinceMs ?? 0,
      text: `hears no other member, but slot ${missed.slot} was elected in term ${missed.term}: ` +
        'standing for no election' }];
  }
}

/** Whether any of these hosts answers a connection attempt, if only with a refusal. */
export async function reach(net: Net, hosts: readonly Endpoint[]): Promise<boolean> {
  const answers = await Promise.all(hosts.map(async (at) => {
    try {
      const socket = await net.connect(at,
        { timeoutMs: REACH_TIMEOUT_MS, silenceTimeoutMs: REACH_TIMEOUT_MS });
      socket.start({ data: () => undefined, closed: () => undefined });
      socket.destroy();
      return true;
    } catch (e) {
      return asScoutfsError(e).errno === 'ECONNREFUSED';
    }
  }));
  return answers.includes(true);
}
