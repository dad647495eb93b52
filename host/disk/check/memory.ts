/**
 * The memory budget of a check.
 *
 * Block maps, read buffers and the few tables that grow with the volume are
 * charged here before they are made. Exceeding the budget ends the check with a
 * clear error instead of the process being killed.
 */
import { ScoutfsError } from '../../observe/errors.js';

export class MemoryBudget {
  private usedBytes = 0;

  constructor(private readonly limitBytes: number) {}

  /** @throws CHECK_MEMORY (ENOMEM) when the budget does not have `bytes` left */
  charge(bytes: number, what: string): void {
    this.usedBytes += bytes;
    if (this.usedBytes > this.limitBytes) {
      throw new ScoutfsError('CHECK_MEMORY', 'ENOMEM', {
        message: `check: ${what} would exceed the memory limit of ${this.limitBytes} bytes`,
        data: { limitBytes: this.limitBytes },
      });
    }
  }

  release(bytes: number): void {
    this.usedBytes -= bytes;
  }
}
