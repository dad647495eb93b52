/**
 * The one error type.
 *
 * Every failure that a user, a caller of the file system or a peer can see is a
 * ScoutfsError: a stable `code` (what happened, for programs and tests), an errno
 * name (what a system call returns), a message for people, and data. It is turned
 * into a FUSE reply, a wire error or a line on standard error once, at that border.
 */

/** Linux errno numbers that this project returns or translates. */
export const ERRNO = {
  EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, EBADF: 9, EAGAIN: 11, ENOMEM: 12,
  EACCES: 13, EFAULT: 14, ENOTBLK: 15, EBUSY: 16, EEXIST: 17, EXDEV: 18, ENODEV: 19, ENOTDIR: 20,
  EISDIR: 21, EINVAL: 22, ENOTTY: 25, EFBIG: 27, ENOSPC: 28, ESPIPE: 29, EROFS: 30, EMLINK: 31,
  ERANGE: 34, EDEADLK: 35, ENAMETOOLONG: 36, ENOSYS: 38, ENOTEMPTY: 39, ELOOP: 40, ENODATA: 61,
  ENOLINK: 67, EBADMSG: 74, EOVERFLOW: 75, EMSGSIZE: 90, EOPNOTSUPP: 95, EADDRINUSE: 98,
  EADDRNOTAVAIL: 99, ECONNABORTED: 103, ECONNRESET: 104, ENOBUFS: 105, ENOTCONN: 107,
  ESHUTDOWN: 108, ETIMEDOUT: 110, ECONNREFUSED: 111, EINPROGRESS: 115, ESTALE: 116, EDQUOT: 122,
  EUCLEAN: 117, ENOLCK: 37,
} as const;

export type ErrnoName = keyof typeof ERRNO;

const NAME_OF = new Map<number, ErrnoName>(
  Object.entries(ERRNO).map(([name, nr]) => [nr, name as ErrnoName]),
);

/** Name of an errno given as a positive or negative number; EIO for numbers we do not know. */
export function errnoName(nr: number): ErrnoName {
  return NAME_OF.get(Math.abs(nr)) ?? 'EIO';
}

export interface ScoutfsErrorInit {
  message?: string;
  cause?: unknown;
  data?: Record<string, unknown>;
}

export class ScoutfsError extends Error {
  /** Stable identifier of what happened; for plain system errors the errno name. */
  readonly code: string;
  readonly errno: ErrnoName;
  readonly data: Record<string, unknown>;

  constructor(code: string, errno: ErrnoName, init: ScoutfsErrorInit = {}) {
    super(init.message ?? code, init.cause === undefined ? {} : { cause: init.cause });
    this.name = 'ScoutfsError';
    this.code = code;
    this.errno = errno;
    this.data = init.data ?? {};
  }

  /** The positive Linux errno number. */
  get errnoNr(): number {
    return ERRNO[this.errno];
  }
}

/** A plain errno as an error, e.g. what a file operation refuses with. */
export function errnoError(errno: ErrnoName, message?: string): ScoutfsError {
  return new ScoutfsError(errno, errno, message === undefined ? {} : { message });
}

/** Any thrown value as a ScoutfsError: Node's system errors keep their errno, the rest is EIO. */
export function asScoutfsError(e: unknown): ScoutfsError {
  if (e instanceof ScoutfsError) return e;
  const code = (e as NodeJS.ErrnoException | null)?.code;
  const errno = code !== undefined && code in ERRNO ? (code as ErrnoName) : 'EIO';
  const message = e instanceof Error ? e.message : String(e);
  return new ScoutfsError(code ?? 'EIO', errno, { message, cause: e });
}

/** An invariant of our own code; stays on in production. */
export function assert(cond: boolean, what: string): asserts cond {
  if (!cond) throw new ScoutfsError('ASSERT', 'EIO', { message: `assertion failed: ${what}` });
}
