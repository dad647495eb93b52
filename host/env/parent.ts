/**
 * The process that started this one and waits for its report at the other end of a pipe.
 *
 * The report is one line, and then the pipe is closed. If the parent is gone before that,
 * nobody will ever hear: the pipe ends, and whoever wants to know is told.
 */
import * as fs from 'node:fs';
import { Socket } from 'node:net';

export class Parent {
  private readonly pipe: Socket | null;
  private reported = false;

  /** `gone` is called when the parent ends before it got a report. */
  constructor(private readonly fd: number, gone: () => void) {
    this.pipe = socketOf(fd);
    this.pipe?.on('error', () => undefined).on('close', () => {
      if (!this.reported) gone();
    }).resume();
  }

  /** Sends the report. Nothing is thrown: perhaps nobody waits any more. */
  report(message: Record<string, unknown>): void {
    if (this.reported) return;
    this.reported = true;
    try {
      // At once, because the process may end next; a line has room in an empty pipe.
      fs.writeSync(this.fd, `${JSON.stringify(message)}\n`);
    } catch {
      // nobody waits any more
    }
    this.pipe?.destroy();
  }
}

/** Null when the descriptor is no pipe: somebody else started us. */
function socketOf(fd: number): Socket | null {
  try {
    return new Socket({ fd, readable: true, writable: false });
  } catch {
    return null;
  }
}
