/**
 * Dispatch of clients' requests.
 *
 * Handlers run concurrently and answer in any order. A failure is answered with its
 * errno, except when the server is stopping: then nothing is said, because an error would
 * reach the application although the next server could do what was asked.
 * Source: server.md 4, net.md 6.
 */
import * as F from '../core/format.js';
import { LockPlain, U64, commandName, decode, encode, viewOf } from '../net/messages.js';
import type { NetRequest } from '../net/peer.js';
import { C } from '../observe/counters.js';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import type { ServerContext } from './context.js';
import type { FarewellWorker } from './farewell_worker.js';
import type { LogMerges } from './log_merge.js';
import type { LogTreesService } from './log_trees.js';
import { resizeDevices } from './resize.js';
import type { ClientServices } from './services.js';
import type { SrchCompactions } from './srch.js';
import { statfs } from './statfs.js';
import { clearVolopt, getVolopt, setVolopt } from './volopt.js';

export interface RequestParts {
  trees: LogTreesService;
  srch: SrchCompactions;
  merges: LogMerges;
  services: ClientServices;
  farewells: FarewellWorker;
}

export interface RequestHooks {
  /** Whether errors may be answered. */
  answering(): boolean;
  /** For the log: a request was answered with an error. */
  refused(rid: bigint, why: string): void;
}

/** Requests of one client that are being worked on; more than any mount has. */
const AT_WORK_MAX = 16_384;

type Handler = (rid: bigint, payload: Uint8Array) => Promise<Uint8Array | undefined>;

const NOTHING = new Uint8Array(0);

export class Requests {
  private readonly table: Readonly<Record<number, Handler>>;
  private readonly atWork = new Set<Promise<void>>();
  private readonly atWorkOf = new Map<bigint, number>();

  constructor(private readonly s: ServerContext, private readonly parts: RequestParts,
    private readonly hooks: RequestHooks) {
    const { trees, srch, merges } = parts;
    this.table = {
      [F.NET_CMD_ALLOC_INODES]: (_rid, p) => trees.allocInodes(viewOf(p).getBigUint64(0, true)),
      [F.NET_CMD_GET_LOG_TREES]: (rid) => trees.get(rid),
      [F.NET_CMD_COMMIT_LOG_TREES]: (rid, p) => nothing(trees.commit(rid, p)),
      [F.NET_CMD_GET_ROOTS]: () => Promise.resolve(trees.getRoots()),
      [F.NET_CMD_GET_LAST_SEQ]: async () => encode(U64, await trees.lastSeq()),
      [F.NET_CMD_SRCH_GET_COMPACT]: (rid) => srch.get(rid),
      [F.NET_CMD_SRCH_COMMIT_COMPACT]: (rid, p) => nothing(srch.commit(rid, p)),
      [F.NET_CMD_GET_LOG_MERGE]: (rid) => merges.get(rid),
      [F.NET_CMD_COMMIT_LOG_MERGE]: (rid, p) => nothing(merges.commit(rid, p)),
      [F.NET_CMD_GET_VOLOPT]: () => Promise.resolve(getVolopt(s)),
      [F.NET_CMD_SET_VOLOPT]: (_rid, p) => nothing(setVolopt(s, p)),
      [F.NET_CMD_CLEAR_VOLOPT]: (_rid, p) => nothing(clearVolopt(s, p)),
      [F.NET_CMD_RESIZE_DEVICES]: (_rid, p) => nothing(resizeDevices(s, p)),
      [F.NET_CMD_STATFS]: () => statfs(s),
    };
  }

  /** A request with a payload of the right length. @throws to break the client's socket */
  handle(rid: bigint, request: NetRequest): void {
    const { services, farewells } = this.parts;
    switch (request.cmd) {
      case F.NET_CMD_LOCK:
        services.locks.request(rid, request, decode(LockPlain, request.payload));
        return;
      case F.NET_CMD_OPEN_INO_MAP:
        services.omap.request(rid, request, decode(F.OpenInoMapArgs, request.payload).groupNr);
        return;
      case F.NET_CMD_FAREWELL:
        farewells.add(rid, request);
        return;
      default: this.begin(rid, request);
    }
  }

  private begin(rid: bigint, request: NetRequest): void {
    const n = (this.atWorkOf.get(rid) ?? 0) + 1;
    if (n > AT_WORK_MAX) throw errnoError('EBADMSG', 'more requests than any mount has');
    this.atWorkOf.set(rid, n);
    const work = this.answer(rid, request).finally(() => {
      this.atWork.delete(work);
      const left = (this.atWorkOf.get(rid) ?? 1) - 1;
      if (left === 0) this.atWorkOf.delete(rid);
      else this.atWorkOf.set(rid, left);
    });
    this.atWork.add(work);
  }

  /** Waits for all handlers. */
  async stop(): Promise<void> {
    await Promise.allSettled([...this.atWork]);
  }

  private async answer(rid: bigint, request: NetRequest): Promise<void> {
    try {
      const handler = this.table[request.cmd];
      if (handler === undefined) {
        throw errnoError('EINVAL', `unexpected ${commandName(request.cmd)}`);
      }
      request.respond(null, await handler(rid, request.payload) ?? NOTHING);
    } catch (e) {
      const error = asScoutfsError(e);
      if (!this.hooks.answering()) return;
      // ENOENT says that there is nothing to do, or that it is done.
      if (error.errno !== 'ENOENT') {
        this.s.counters.inc(C.net_refused_requests);
        this.hooks.refused(rid, `${commandName(request.cmd)}: ${error.message}`);
      }
      request.respond(error.errno);
    }
  }
}

async function nothing(work: Promise<void>): Promise<undefined> {
  await work;
  return undefined;
}
