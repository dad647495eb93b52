/**
 * What waits for something that may take long, why, and since when: the lines of the
 * control file `debug/pending`, which people read and `scoutfs cluster` collects.
 *
 *   <kind> secs_since <seconds>.<9 digits> <text>
 *
 *   of a mount                                  of its server, while it has one
 *   server    no server: why                    fence       rid, address, reason
 *   request   to the server, without answer     recovery    rid, and what is outstanding
 *   lock      key, mode, who wants what         farewell    rid that wants to leave
 *   commit    what fails, to be repeated        lock_request  key, mode, of whom, held by whom
 *   device    read, write or flush at work
 *   member    what keeps the quorum member from elections
 *
 * Times are on the monotonic clock. The format is ours; `secs_since` is as in upstream's
 * quorum/status (quorum.md 8).
 */

export const PENDING_KINDS = [
  'server', 'request', 'lock', 'commit', 'device', 'member', 'fence', 'recovery', 'farewell',
  'lock_request',
] as const;
export type PendingKind = (typeof PENDING_KINDS)[number];

export interface Pending {
  kind: PendingKind;
  sinceMs: number;
  text: string;
}

/** A line of the file, as it was read. */
export interface PendingLine {
  kind: string;
  secs: number;
  text: string;
}

/** `<seconds>.<9 digits>`; 0 for times that lie ahead. */
export function secondsText(ms: number): string {
  const ns = Math.max(0, Math.round(ms * 1e6));
  return `${Math.floor(ns / 1e9)}.${String(ns % 1e9).padStart(9, '0')}`;
}

/** The line of one wait. */
export function pendingLine(p: Pending, nowMs: number): string {
  return `${p.kind} secs_since ${secondsText(nowMs - p.sinceMs)} ${p.text}`;
}

/** The lines of a file; what is none of ours is left out. */
export function parsePending(text: string): PendingLine[] {
  return text.split('\n').flatMap((line) => {
    const m = /^(\w+) secs_since (\d+\.\d+) (.*)$/.exec(line);
    return m === null ? [] : [{ kind: m[1] ?? '', secs: Number(m[2]), text: m[3] ?? '' }];
  });
}
