/**
 * Sending file data to the device.
 *
 * Whoever changed items in this tick hands the blocks over here. The writer gets
 * the first attempt's result. The transaction gets a promise that resolves only
 * when the data is on the device: items that point at new blocks must not be
 * committed before, or the file would show what the device had there. A write
 * that fails is therefore repeated, from a copy, until it succeeds or the mount is
 * given up. Later accesses to these blocks wait for the same promise; when the mount is given
 * up they fail, because what the device has there is not the file's.
 * Source: data.md 5, trans.md 5.
 */
import type { Clock } from '../env/clock.js';
import type { Device } from '../env/device.js';
import { asScoutfsError, errnoError } from '../observe/errors.js';
import type { Pending } from '../observe/pending.js';
import type { DataGuard } from './guard.js';

/** The transaction's view of data: a commit is sent after these are done. */
export interface TransData {
  addWrite(io: Promise<void>): void;
  /** Whether the mount was given up: nothing may be written any more. */
  givenUp(): boolean;
}

/** Whole blocks for one place of the device. */
export interface DeviceWrite {
  offset: number;
  bytes: Uint8Array;
}

/** Delay before a failed write is repeated. */
const REWRITE_DELAY_MS = 2000;

export class DataWriter {
  /** Writes that have failed and are repeated, with what the last attempt said. */
  private readonly failing = new Map<DeviceWrite, { sinceMs: number; why: string }>();

  constructor(
    private readonly device: Device, private readonly guard: DataGuard,
    private readonly trans: TransData, private readonly clock: Clock,
    private readonly failed: (what: string, e: unknown) => void,
  ) {}

  /**
   * Writes blocks `first .. last` of an inode; `bytes` stay untouched until the result is there.
   * @throws EIO (as rejection) when the first attempt of any write failed
   */
  send(ino: number, first: number, last: number, writes: readonly DeviceWrite[]): Promise<void> {
    const ios = writes.map((w) => this.device.write(w.offset, w.bytes));
    const stable = Promise.all(ios.map((io, i) =>
      io.catch((e: unknown) => this.rewrite(writes[i], e))))
      .then(() => undefined);
    this.guard.addWrite(ino, first, last, stable);
    this.trans.addWrite(stable);
    return Promise.allSettled(ios).then((results) => {
      for (const r of results) if (r.status === 'rejected') throw r.reason;
    });
  }

  /** What is repeated: one line, since it is one device. */
  pending(): Pending[] {
    const [first] = this.failing.values();
    if (first === undefined) return [];
    const more = this.failing.size - 1;
    return [{ kind: 'device', sinceMs: first.sinceMs,
      text: `${first.why}; repeated every ${REWRITE_DELAY_MS / 1000} s${
        more === 0 ? '' : `, and ${more} more`}` }];
  }

  /** The first failure is reported, later ones are not. @throws ENOLINK when given up */
  private async rewrite(w: DeviceWrite | undefined, cause: unknown): Promise<void> {
    if (w === undefined) return;
    const bytes = w.bytes.slice();
    const state = { sinceMs: this.clock.monotonicMs(), why: asScoutfsError(cause).message };
    this.failing.set(w, state);
    this.failed(`writing data failed, next try in ${REWRITE_DELAY_MS / 1000} s`, cause);
    try {
      for (;;) {
        await this.clock.sleep(REWRITE_DELAY_MS);
        if (this.trans.givenUp()) throw errnoError('ENOLINK');
        try {
          await this.device.write(w.offset, bytes);
          return;
        } catch (e) {
          // the device is not back yet: the transaction has to wait for it
          state.why = asScoutfsError(e).message;
        }
      }
    } finally {
      this.failing.delete(w);
    }
  }
}
