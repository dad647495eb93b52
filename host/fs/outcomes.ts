/**
 * What a request that can be interrupted has been waiting for.
 *
 * An operation that has to ask somebody (the server, a device, another thread) throws
 * `Wait`, so that its caller can be interrupted, and runs again when the answer is there.
 * The answer is kept for exactly that run.
 */
import { Wait } from '../mount/op.js';
import type { Call } from './vfs.js';

export class Outcomes {
  private readonly outcomes = new WeakMap<Call, { value: unknown }>();

  /**
   * The result of `fn`, which is called once however often the request runs until then.
   * One call in an operation at most. @throws Wait when it is a promise
   */
  of<T>(call: Call, fn: () => T | Promise<T>): T {
    const outcome = this.outcomes.get(call);
    if (outcome !== undefined) {
      this.outcomes.delete(call);
      return outcome.value as T;
    }
    const got = fn();
    if (!(got instanceof Promise)) return got;
    let wanted = true;
    const ready = got.then((value) => { if (wanted) this.outcomes.set(call, { value }); });
    throw new Wait(ready, false, () => {
      wanted = false;
      this.outcomes.delete(call);
    });
  }
}
