/**
 * The typed payload of every message, for whoever handles messages without knowing
 * their command beforehand (tracing, tests, dumps of captured traffic).
 *
 * Source: net.md 2.2 and 2.5.
 */
import * as F from '../core/format.js';
import type { Codec } from './messages.js';
import { EMPTY, LockGrant, LockPlain, LockRecover, U64 } from './messages.js';

type AnyCodec = Codec<unknown> & { sizeOf?(value: unknown): number };

interface Payloads {
  clientRequest?: AnyCodec;
  serverResponse?: AnyCodec;
  serverRequest?: AnyCodec;
  clientResponse?: AnyCodec;
}

const PAYLOADS: Readonly<Record<number, Payloads>> = {
  [F.NET_CMD_GREETING]: { clientRequest: F.NetGreeting, serverResponse: F.NetGreeting },
  [F.NET_CMD_ALLOC_INODES]: { clientRequest: U64, serverResponse: F.NetInodeAlloc },
  [F.NET_CMD_GET_LOG_TREES]: { clientRequest: EMPTY, serverResponse: F.LogTrees },
  [F.NET_CMD_COMMIT_LOG_TREES]: { clientRequest: F.LogTrees, serverResponse: EMPTY },
  [F.NET_CMD_SYNC_LOG_TREES]: { serverRequest: EMPTY, clientResponse: EMPTY },
  [F.NET_CMD_GET_ROOTS]: { clientRequest: EMPTY, serverResponse: F.NetRoots },
  [F.NET_CMD_GET_LAST_SEQ]: { clientRequest: EMPTY, serverResponse: U64 },
  [F.NET_CMD_LOCK]: {
    clientRequest: LockPlain, serverResponse: LockGrant, serverRequest: LockPlain,
    clientResponse: LockPlain,
  },
  [F.NET_CMD_LOCK_RECOVER]: { serverRequest: F.Key, clientResponse: LockRecover },
  [F.NET_CMD_SRCH_GET_COMPACT]: { clientRequest: EMPTY, serverResponse: F.SrchCompact },
  [F.NET_CMD_SRCH_COMMIT_COMPACT]: { clientRequest: F.SrchCompact, serverResponse: EMPTY },
  [F.NET_CMD_GET_LOG_MERGE]: { clientRequest: EMPTY, serverResponse: F.LogMergeRequest },
  [F.NET_CMD_COMMIT_LOG_MERGE]: { clientRequest: F.LogMergeComplete, serverResponse: EMPTY },
  [F.NET_CMD_OPEN_INO_MAP]: {
    clientRequest: F.OpenInoMapArgs, serverResponse: F.OpenInoMap,
    serverRequest: F.OpenInoMapArgs, clientResponse: F.OpenInoMap,
  },
  [F.NET_CMD_GET_VOLOPT]: { clientRequest: EMPTY, serverResponse: F.VolumeOptions },
  [F.NET_CMD_SET_VOLOPT]: { clientRequest: F.VolumeOptions, serverResponse: EMPTY },
  [F.NET_CMD_CLEAR_VOLOPT]: { clientRequest: F.VolumeOptions, serverResponse: EMPTY },
  [F.NET_CMD_RESIZE_DEVICES]: { clientRequest: F.NetResizeDevices, serverResponse: EMPTY },
  [F.NET_CMD_STATFS]: { clientRequest: EMPTY, serverResponse: F.NetStatfs },
  [F.NET_CMD_FAREWELL]: { clientRequest: EMPTY, serverResponse: EMPTY },
};

/**
 * Codec of a message's payload, or null when such a message does not exist. A message
 * with an error has no payload.
 */
export function payloadCodec(cmd: number, fromClient: boolean, response: boolean, error: number):
AnyCodec | null {
  const row = PAYLOADS[cmd];
  if (error !== 0) return response && row !== undefined ? EMPTY : null;
  const codec = response
    ? (fromClient ? row?.clientResponse : row?.serverResponse)
    : (fromClient ? row?.clientRequest : row?.serverRequest);
  return codec ?? null;
}
