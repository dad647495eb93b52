/**
 * A directory of small text files that show and take values, where upstream has sysfs.
 *
 * Each file has a reader, and if it can be written a receiver. Files are brought up to
 * date once a second and whenever `refresh` is called. A write by somebody else is
 * noticed by the change time of the file, whatever was written, also the same text
 * again; the receiver gets the text and the file shows the reader's value again. Files
 * are replaced in place, so who reads them at that moment gets the old or the new text,
 * or nothing; scripts poll. Errors of the file system are reported once per file: the
 * tree is a service to people and programs, never a condition for the mount to work.
 * Source: cli.md 3.1, 3.2; recovery.md 3.2.
 */
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { asScoutfsError } from '../observe/errors.js';
import type { Clock, TimerHandle } from './clock.js';

const REFRESH_MS = 1000;
/** Writes are looked for this often. */
const POLL_MS = 200;
const WRITTEN_BYTES_MAX = 4096;

export interface ControlFile {
  /** The text to show, without a line break unless it has one upstream. */
  read(): string;
  /** Somebody wrote `text`. A thrown error is reported; the file shows `read` again. */
  written?(text: string): void;
}

interface Entry extends ControlFile {
  shown: string | null;
  changeNs: bigint;
  broken: boolean;
}

export class ControlTree {
  private readonly files = new Map<string, Entry>();
  private timer: TimerHandle | null = null;
  private nextRefreshMs = 0;
  private closed = false;

  /** `report` gets one line per thing that went wrong. */
  constructor(readonly root: string, private readonly clock: Clock,
    private readonly report: (line: string) => void) {}

  /** Adds or replaces a file; `path` is relative to the root. */
  add(path: string, file: ControlFile): void {
    if (this.closed) return;
    const entry: Entry = {
      read: () => file.read(), shown: null, changeNs: 0n, broken: false,
      ...(file.written === undefined ? {} : { written: (text: string) => file.written?.(text) }),
    };
    this.files.set(path, entry);
    this.show(path, entry);
    if (this.timer === null) this.tick();
  }

  /** Removes a directory and everything in it. */
  removeDir(path: string): void {
    for (const name of [...this.files.keys()]) {
      if (name.startsWith(`${path}/`)) this.files.delete(name);
    }
    fs.rmSync(join(this.root, path), { recursive: true, force: true });
  }

  /** Brings all files up to date now. */
  refresh(): void {
    for (const [path, entry] of this.files) this.show(path, entry);
  }

  /** Stops; removes the root if it is empty, the files are whoever's who added them. */
  close(): void {
    this.closed = true;
    this.timer?.cancel();
    this.timer = null;
    this.files.clear();
    try {
      fs.rmdirSync(this.root);
    } catch {
      // Something else is in it, or it never was.
    }
  }

  private tick(): void {
    this.takeWrites();
    const nowMs = this.clock.monotonicMs();
    if (nowMs >= this.nextRefreshMs) {
      this.nextRefreshMs = nowMs + REFRESH_MS;
      this.refresh();
    }
    if (!this.closed) this.timer = this.clock.after(POLL_MS, () => { this.tick(); });
  }

  private takeWrites(): void {
    for (const [path, entry] of [...this.files]) {
      if (entry.written === undefined || entry.broken) continue;
      const name = join(this.root, path);
      try {
        const stat = fs.statSync(name, { bigint: true });
        const text = fs.readFileSync(name, 'utf8').slice(0, WRITTEN_BYTES_MAX);
        // Change times are only as fine as the kernel's tick: look at the text as well.
        if (stat.ctimeNs === entry.changeNs && text === entry.shown) continue;
        entry.shown = null;
        entry.written(text);
      } catch (e) {
        this.report(`${name}: ${asScoutfsError(e).message}`);
      }
      // The file may have been taken away by what was written.
      if (this.files.get(path) === entry) this.show(path, entry);
    }
  }

  private show(path: string, entry: Entry): void {
    if (entry.broken) return;
    const name = join(this.root, path);
    try {
      const text = entry.read();
      if (text === entry.shown) return;
      if (entry.shown === null) fs.mkdirSync(dirname(name), { recursive: true, mode: 0o755 });
      fs.writeFileSync(name, text, { mode: 0o644 });
      entry.shown = text;
      entry.changeNs = fs.statSync(name, { bigint: true }).ctimeNs;
    } catch (e) {
      entry.broken = true;
      this.report(`${name}: ${asScoutfsError(e).message}`);
    }
  }
}
