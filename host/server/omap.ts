/**
 * The server's side of the open inode map: whoever wants to delete an unlinked inode
 * asks which inodes of its group all the other mounts have in use.
 *
 *   A --request--> server --request--> every other client --bits--> server --union--> A
 *
 * Invariants
 *   - a request is counted as asked of exactly the members of the moment it is handled
 *   - nothing is handled while a client of the previous server has not greeted: its
 *     bits would be missing
 *   - a member that is reclaimed counts as having answered
 *
 * Source: recovery.md 5; vectors `omap_server_traces`.
 */
import type { OpenInoMap, OpenInoMapArgs } from '../core/format.js';
import { OPEN_INO_MAP_LE64S } from '../core/constants.js';
import { errnoError } from '../observe/errors.js';

export interface OmapServerDeps<Request> {
  /** Answers the one who wants to delete; the client may be gone. */
  respond(rid: bigint, request: Request, map: OpenInoMap): void;
  /** Asks a client for its bits; one that is not connected is ignored. */
  ask(rid: bigint, args: OpenInoMapArgs): void;
  /** Has a client of the previous server not greeted yet? */
  greetingsOutstanding(): boolean;
}

/** Requests of one client at a time; more than any mount has. */
const REQUESTS_MAX = 16_384;

interface Gathering<Request> {
  rid: bigint;
  request: Request;
  args: OpenInoMapArgs;
  awaited: Set<bigint>;
  bits: bigint[];
}

export class OmapServer<Request> {
  private readonly members = new Set<bigint>();
  private readonly gatherings = new Map<number, Gathering<Request>>();
  private readonly asking = new Map<bigint, number>();
  /** waiting for greetings, oldest first */
  private queued: Gathering<Request>[] = [];
  private nextReqId = 1;

  constructor(private readonly deps: OmapServerDeps<Request>) {}

  /** A client can have inodes in use from now on. */
  add(rid: bigint): void {
    this.members.add(rid);
  }

  /** A client left or was fenced; one that never connected is fine. */
  remove(rid: bigint): void {
    this.members.delete(rid);
    this.asking.delete(rid);
    this.queued = this.queued.filter((g) => g.rid !== rid);
    for (const g of [...this.gatherings.values()]) {
      if (g.rid === rid) this.gatherings.delete(g.args.reqId);
      else if (g.awaited.delete(rid)) this.finishIfAnswered(g);
    }
  }

  /** A client wants the map of a group. @throws EBADMSG for more than it can want */
  request(rid: bigint, request: Request, groupNr: number): void {
    const asking = (this.asking.get(rid) ?? 0) + 1;
    if (asking > REQUESTS_MAX) throw errnoError('EBADMSG', 'more open map requests than inodes');
    this.asking.set(rid, asking);
    this.queued.push({
      rid, request, args: { groupNr, reqId: this.nextReqId++ }, awaited: new Set(),
      bits: Array.from({ length: OPEN_INO_MAP_LE64S }, () => 0n),
    });
    this.handleQueued();
  }

  /** A client's bits; answers nobody waits for are ignored. */
  response(rid: bigint, map: OpenInoMap): void {
    const g = this.gatherings.get(map.args.reqId);
    if (g?.awaited.delete(rid) !== true) return;
    g.bits = g.bits.map((b, i) => b | (map.bits[i] ?? 0n));
    this.finishIfAnswered(g);
  }

  /** Recovery of the clients is complete. */
  recoveryFinished(): void {
    this.handleQueued();
  }

  private handleQueued(): void {
    if (this.deps.greetingsOutstanding()) return;
    const now = this.queued;
    this.queued = [];
    for (const g of now.reverse()) this.gather(g);
  }

  private gather(g: Gathering<Request>): void {
    for (const rid of this.members) if (rid !== g.rid) g.awaited.add(rid);
    this.gatherings.set(g.args.reqId, g);
    for (const rid of [...g.awaited]) this.deps.ask(rid, g.args);
    this.finishIfAnswered(g);
  }

  private finishIfAnswered(g: Gathering<Request>): void {
    if (g.awaited.size > 0 || !this.gatherings.delete(g.args.reqId)) return;
    this.asking.set(g.rid, Math.max(0, (this.asking.get(g.rid) ?? 0) - 1));
    this.deps.respond(g.rid, g.request, { args: g.args, bits: g.bits });
  }
}
