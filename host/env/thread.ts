/**
 * Worker threads with typed messages.
 *
 * A thread runs one module with start data; both sides post plain values and get
 * them in order. Errors that escape a thread end it and are reported once.
 */
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

/** The creator's end of a thread. */
export interface Thread<In, Out> {
  post(message: In): void;
  /** Called for every message of the thread. */
  onMessage(fn: (message: Out) => void): void;
  /** Called once when the thread has ended; `error` is what ended it, if anything did. */
  onEnd(fn: (error: Error | null) => void): void;
  /** Ends the thread wherever it is. */
  terminate(): Promise<void>;
}

/** Starts a thread that runs the module `url` with `data`. */
export type StartThread = <In, Out>(url: URL, data: unknown) => Thread<In, Out>;

/** Threads of this process. */
export function startThread<In, Out>(url: URL, data: unknown): Thread<In, Out> {
  const worker = new Worker(url, { workerData: data });
  let failure: Error | null = null;
  worker.on('error', (e) => { failure = e instanceof Error ? e : new Error(String(e)); });
  return {
    post(message) { worker.postMessage(message); },
    onMessage(fn) { worker.on('message', (m: Out) => { fn(m); }); },
    onEnd(fn) { worker.on('exit', () => { fn(failure); }); },
    async terminate() { await worker.terminate(); },
  };
}

/** The thread's own end. */
export interface ThreadSelf<In, Out, Data> {
  readonly data: Data;
  post(message: Out): void;
  onMessage(fn: (message: In) => void): void;
  /** No more messages are expected: lets the thread end when its work has. */
  close(): void;
}

/** What a thread's module calls at its start; null in the main thread. */
export function threadSelf<In, Out, Data>(): ThreadSelf<In, Out, Data> | null {
  const port = parentPort;
  if (isMainThread || port === null) return null;
  return {
    data: workerData as Data,
    post(message) { port.postMessage(message); },
    onMessage(fn) { port.on('message', (m: In) => { fn(m); }); },
    close() { port.close(); },
  };
}
