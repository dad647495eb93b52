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

  /** As charge, for what can be done without. @returns false when the budget is spent */
  tryCharge(bytes: number): boolean {
    if (this.usedBytes + bytes > this.limitBytes) return false;
    this.usedBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.usedBytes -= bytes;
  }

  get used(): number {
    return this.usedBytes;
  }

  /** Forgets charges made since `used` was `bytes`: a walk's tables go with the walk. */
  resetTo(bytes: number): void {
    this.usedBytes = bytes;
  }
}
