/**
 * What a quorum member shows in its mount's directory of control files, and takes there
 * from fence agents.
 *
 *   quorum/is_leader, quorum/status
 *   fence/<rid of the victim>/   rid ipv4_addr reason elapsed_secs   fenced error
 *
 * A fence directory exists as long as the request does. Writing anything to `fenced`
 * or `error` sets it. Source: quorum.md 8, recovery.md 3.2.
 */
import type { Clock } from '../env/clock.js';
import { ipv4String } from '../env/net.js';
import type { ControlTree } from '../observe/control.js';
import { hex16 } from '../observe/log.js';
import type { FenceView } from './fence.js';

/** Status of a member that is not there yet. */
const NOT_STARTED = 'role 0 (follower)\n';

/** The member as far as its files are concerned; a MemberHandle is one. */
export interface ShownMember {
  readonly isLeader: boolean;
  status(): Promise<string>;
  setFenced(rid: bigint): void;
  setFenceError(rid: bigint): void;
}

export class MemberFiles {
  private member: ShownMember | null = null;
  private readonly requests = new Map<bigint, { view: FenceView; sinceMs: number }>();
  private closed = false;

  constructor(private readonly tree: ControlTree, private readonly clock: Clock) {
    tree.addDir('fence');
    tree.add('quorum/is_leader', { read: () => this.member?.isLeader === true ? '1' : '0' });
    tree.add('quorum/status', { read: () => this.member?.status() ?? NOT_STARTED });
  }

  /** The member has started. */
  show(member: ShownMember): void {
    this.member = member;
  }

  /** The requests of our server, all of them. */
  fences(requests: readonly FenceView[]): void {
    if (this.closed) return;
    for (const rid of [...this.requests.keys()]) {
      if (!requests.some((r) => r.rid === rid)) this.removeRequest(rid);
    }
    for (const view of requests) {
      const known = this.requests.get(view.rid);
      if (known !== undefined) known.view = view;
      else this.addRequest(view);
    }
  }

  /** The member is gone, and so are its files. */
  close(): void {
    this.closed = true;
    this.requests.clear();
    for (const dir of ['quorum', 'fence']) this.tree.remove(dir);
  }

  private addRequest(view: FenceView): void {
    const request = { view, sinceMs: this.clock.monotonicMs() - view.elapsedSecs * 1000 };
    this.requests.set(view.rid, request);
    const dir = dirOf(view.rid);
    const flag = (name: 'fenced' | 'error', set: () => void): void => {
      this.tree.add(`${dir}/${name}`, {
        read: () => request.view[name] ? '1' : '0',
        write: () => {
          request.view = { ...request.view, [name]: true };
          set();
        },
      });
    };
    this.tree.add(`${dir}/rid`, { read: () => hex16(view.rid) });
    this.tree.add(`${dir}/ipv4_addr`, { read: () => ipv4String(view.ipv4Addr) });
    this.tree.add(`${dir}/reason`, { read: () => view.reason });
    this.tree.add(`${dir}/elapsed_secs`, {
      read: () => String(Math.floor((this.clock.monotonicMs() - request.sinceMs) / 1000)),
    });
    flag('fenced', () => { this.member?.setFenced(view.rid); });
    flag('error', () => { this.member?.setFenceError(view.rid); });
  }

  private removeRequest(rid: bigint): void {
    this.requests.delete(rid);
    this.tree.remove(dirOf(rid));
  }
}

function dirOf(rid: bigint): string {
  return `fence/${hex16(rid)}`;
}
