/**
 * What the processes of the stress run know of each object, in memory that they share.
 *
 *   per object, 32-bit words
 *   ╒══════╤═══════╤══════╤═══════╕
 *   │ lock │ begun │ done │ spare │      lock: the process that changes it, 0 for none
 *   ╘══════╧═══════╧══════╧═══════╛
 *   per worker, 32-bit words
 *   ╒═════╤═════════╤══════╤══════╕
 *   │ ops │ sinceMs │ kind │ pid  │      what it is doing, and since when
 *   ╘═════╧═════════╧══════╧══════╛
 *
 * A writer counts `begun` up, makes its change, and sets `done` to the same number. Whoever
 * reads `done` before a call and `begun` after it knows which changes the call may and which it
 * must have seen: this is the clock that all processes share. The numbers wrap nowhere near a
 * run's length.
 *
 * A writer that is killed leaves its lock; whoever finds that takes it over, and then nobody
 * knows whether the change was made: `done` stays behind until the next one is.
 */
import * as koffi from 'koffi';
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import * as c from '../lib/syscalls.js';

const WORDS = 4;
export const OBJECTS_MAX = 256;
export const WORKERS_MAX = 64;
const BYTES = 4 * WORDS * (OBJECTS_MAX + WORKERS_MAX);
const [LOCK, BEGUN, DONE] = [0, 1, 2] as const;
const [OPS, SINCE, KIND, PID] = [0, 1, 2, 3] as const;

/** What a process may do to an object that it has locked. */
export interface Claim {
  /** Number of the change that it is going to make. */
  seq: number;
  /** Whether the change before may or may not have been made. */
  unsure: boolean;
}

export interface WorkerState {
  ops: number;
  sinceMs: number;
  kind: number;
  pid: number;
}

export class StressTable {
  private readonly words: Int32Array;

  /** @param path a file in memory, made when it is missing */
  constructor(path: string) {
    const fd = openSync(path, 'a+');
    ftruncateSync(fd, BYTES);
    closeSync(fd);
    const rw = c.ok(c.open(path, c.O.RDWR | c.O.CLOEXEC));
    const at = c.mmap(rw, BYTES, c.PROT.READ | c.PROT.WRITE, c.MAP.SHARED);
    if (typeof at === 'string') throw new Error(`mmap: ${at}`);
    c.close(rw);
    this.words = new Int32Array(koffi.view(at, BYTES));
  }

  private at(object: number, word: number): number {
    return object * WORDS + word;
  }

  done(object: number): number {
    return Atomics.load(this.words, this.at(object, DONE));
  }

  begun(object: number): number {
    return Atomics.load(this.words, this.at(object, BEGUN));
  }

  /** Locks an object and announces a change; null when another process is at it. */
  begin(object: number): Claim | null {
    const lock = this.at(object, LOCK);
    const held = Atomics.compareExchange(this.words, lock, 0, process.pid);
    if (held !== 0) {
      if (alive(held)) return null;
      if (Atomics.compareExchange(this.words, lock, held, process.pid) !== held) return null;
    }
    const seq = this.begun(object) + 1;
    const unsure = this.done(object) !== seq - 1;
    Atomics.store(this.words, this.at(object, BEGUN), seq);
    return { seq, unsure };
  }

  /** The change was made. */
  end(object: number, claim: Claim): void {
    Atomics.store(this.words, this.at(object, DONE), claim.seq);
    Atomics.store(this.words, this.at(object, LOCK), 0);
  }

  private worker(nr: number, word: number): number {
    return (OBJECTS_MAX + nr) * WORDS + word;
  }

  /** A worker says what it is about to do. */
  working(nr: number, kind: number, ops: number): void {
    Atomics.store(this.words, this.worker(nr, KIND), kind);
    Atomics.store(this.words, this.worker(nr, OPS), ops);
    Atomics.store(this.words, this.worker(nr, SINCE), sharedMs());
    // a process before this one has had the worker's words
    Atomics.store(this.words, this.worker(nr, PID), process.pid);
  }

  state(nr: number): WorkerState {
    const word = (w: number): number => Atomics.load(this.words, this.worker(nr, w));
    return { ops: word(OPS), sinceMs: word(SINCE), kind: word(KIND), pid: word(PID) };
  }
}

/** Milliseconds since the machine started, in 31 bits: the same in all processes. */
export function sharedMs(): number {
  return Number((process.hrtime.bigint() / 1_000_000n) & 0x7fffffffn);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
