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
import { ControlTree } from '../env/control_tree.js';
import { ipv4String } from '../env/net.js';
import type { FenceView } from './fence.js';

/** How long a status may be old. */
const STATUS_POLL_MS = 1000;

/** The member as far as its files are concerned; a MemberHandle is one. */
export interface ShownMember {
  readonly isLeader: boolean;
  status(): Promise<string>;
  setFenced(rid: bigint): void;
  setFenceError(rid: bigint): void;
}

export class MemberFiles {
  private member: ShownMember | null = null;
  private statusText = 'role 0 (follower)\n';
  private readonly requests = new Map<bigint, { view: FenceView; sinceMs: number }>();
  private closed = false;

  private readonly tree: ControlTree;

  /** Files below `dir`; `report` gets a line for what cannot be shown. */
  constructor(dir: string, private readonly clock: Clock, report: (line: string) => void) {
    this.tree = new ControlTree(dir, clock, report);
  }

  /** The member has started. */
  show(member: ShownMember): void {
    this.member = member;
    this.tree.add('quorum/is_leader', { read: () => member.isLeader ? '1' : '0' });
    this.tree.add('quorum/status', { read: () => this.statusText });
    void this.poll();
  }

  /** Leadership changed: visible before a client can have been served. */
  roleChanged(): void {
    if (this.closed) return;
    this.tree.refresh();
    void this.takeStatus();
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
    this.tree.refresh();
  }

  /** The member is gone, and so are its files. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.requests.clear();
    for (const dir of ['quorum', 'fence']) this.tree.removeDir(dir);
    this.tree.close();
  }

  private addRequest(view: FenceView): void {
    const request = { view, sinceMs: this.clock.monotonicMs() - view.elapsedSecs * 1000 };
    this.requests.set(view.rid, request);
    const dir = dirOf(view.rid);
    const flag = (name: 'fenced' | 'error', set: () => void): void => {
      this.tree.add(`${dir}/${name}`, {
        read: () => request.view[name] ? '1' : '0',
        written: () => {
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
    this.tree.removeDir(dirOf(rid));
  }

  private async poll(): Promise<void> {
    while (!this.isClosed()) {
      await this.takeStatus();
      await this.clock.sleep(STATUS_POLL_MS);
    }
  }

  private async takeStatus(): Promise<void> {
    if (this.member !== null) this.statusText = await this.member.status();
    if (!this.isClosed()) this.tree.refresh();
  }

  private isClosed(): boolean {
    return this.closed;
  }
}

function hex16(n: bigint): string {
  return n.toString(16).padStart(16, '0');
}

function dirOf(rid: bigint): string {
  return `fence/${hex16(rid)}`;
}
