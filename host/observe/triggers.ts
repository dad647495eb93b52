/**
 * Triggers: make something rare happen once, for tests.
 *
 * Armed through the control files `debug/trigger/<name>` (1 arms, 0 disarms), a trigger
 * fires at the next occasion and is disarmed by that. The mount and the thread of its
 * quorum member have a set each; whichever has the code of a trigger asks its own. The thread
 * that merges and compacts is told with each piece of work what is armed, and answers what
 * has fired.
 *
 *   alloc_fill_freed_list          the next two commits of the server leave no room in its
 *                                  lists of freed blocks
 *   block_remove_stale             the next block that is used from a cache is dropped as if
 *                                  it were stale, and read again
 *   log_merge_force_finalize_ours  the next commit finalizes the log trees: a merge starts
 *   log_merge_force_partial        a merge of several leaves stops after the first
 *   reclaim_skip_finalize          a dead mount's log tree is not finalized
 *   srch_compact_logs_pad_safe     full leaves of the next sorted file have an entry at the
 *                                  last place where one may start
 *   srch_force_log_rotate          the next commit rotates the mount's srch file
 *   srch_merge_stop_safe           a merge of sorted files stops when an input is at that place
 *   statfs_lock_purge              the next statfs gives idle locks back
 *
 * Spec: cli.md 3.3.
 */

const MOUNT_TRIGGERS = [
  'log_merge_force_partial', 'srch_compact_logs_pad_safe', 'srch_merge_stop_safe',
  'statfs_lock_purge',
] as const;
const SERVER_TRIGGERS = [
  'alloc_fill_freed_list', 'log_merge_force_finalize_ours', 'reclaim_skip_finalize',
  'srch_force_log_rotate',
] as const;
/** Of whichever comes first. */
const COMMON_TRIGGERS = ['block_remove_stale'] as const;

export const TRIGGER_NAMES = [...MOUNT_TRIGGERS, ...SERVER_TRIGGERS, ...COMMON_TRIGGERS] as const;

export type TriggerName = (typeof TRIGGER_NAMES)[number];

/** Whether the mount has code of a trigger. */
export function isMountTrigger(name: TriggerName): boolean {
  return !(SERVER_TRIGGERS as readonly string[]).includes(name);
}

/** Whether the server has code of a trigger. */
export function isServerTrigger(name: TriggerName): boolean {
  return !(MOUNT_TRIGGERS as readonly string[]).includes(name);
}

export class Triggers {
  private readonly armed = new Set<TriggerName>();

  arm(name: TriggerName, on: boolean): void {
    if (on) this.armed.add(name);
    else this.armed.delete(name);
  }

  isArmed(name: TriggerName): boolean {
    return this.armed.has(name);
  }

  /** Whether the trigger fires now; it is disarmed then. */
  fires(name: TriggerName): boolean {
    return this.armed.size > 0 && this.armed.delete(name);
  }

  list(): TriggerName[] {
    return [...this.armed];
  }
}
