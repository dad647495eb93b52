/**
 * Whom the server lets go.
 *
 * A mount that leaves must leave behind a cluster that still works: members stay until
 * enough others are left to elect a leader, or until everybody is a member and wants to
 * go. Mounts without a slot may always go, and have to be gone before the last members.
 *
 * Unlike upstream, members that are recorded but not connected do not count among those
 * left to elect: they may be dead, and with their votes counted the last living member
 * was left behind without a majority, waiting for a leader for ever. They still count
 * among those who have to be gone before the last ones go. And the last members go only
 * when none of them has still to report its locks: it would be taken back, the others
 * would leave, and it waited alone.
 * Source: server.md 8.2; vectors `farewell_decisions`.
 */

export interface MountedClient {
  rid: bigint;
  quorum: boolean;
}

/**
 * Of the waiting requests (in order of arrival) those to reclaim and answer now, in the
 * order to do it in.
 *
 * @param mounted all mounted client items
 * @param needed  votes that make a leader
 * @param recovering whether a client's locks are still being reported: it has to wait,
 *        and keeps its place in the count meanwhile
 * @param connected  whether a client has a socket now
 */
export function mayLeave(requests: readonly bigint[], mounted: readonly MountedClient[],
  needed: number, recovering: (rid: bigint) => boolean,
  connected: (rid: bigint) => boolean): bigint[] {
  const quorum = new Map(mounted.map((m) => [m.rid, m.quorum]));
  let members = mounted.filter((m) => m.quorum).length;
  let electors = mounted.filter((m) => m.quorum && connected(m.rid)).length;
  let others = mounted.length - members;
  const chosen: bigint[] = [];
  const waiting: bigint[] = [];
  for (const rid of requests) {
    const isMember = quorum.get(rid);
    if (isMember === true) {
      waiting.push(rid);
    } else {
      chosen.push(rid);
      if (isMember === false) others--;
    }
  }
  let left = waiting.length;
  // The last ones go together: whoever has to stay for its locks would stay alone.
  const together = !waiting.some((rid) => recovering(rid));
  for (const rid of waiting) {
    const remaining = electors - (connected(rid) ? 1 : 0);
    if (remaining >= needed || (together && left === members && others === 0)) {
      chosen.push(rid);
      electors = remaining;
      members--;
      left--;
    }
  }
  return chosen.filter((rid) => !recovering(rid));
}
