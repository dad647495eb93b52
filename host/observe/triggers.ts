/**
 * Triggers: make something rare happen once, for tests.
 *
 * Armed through the control files `debug/trigger/<name>` (1 arms, 0 disarms), a trigger
 * fires at the next occasion and is disarmed by that. The mount and the thread of its
 * quorum member have a set each; whichever has the code of a trigger asks its own.
 * Spec: cli.md 3.3.
 */

const MOUNT_TRIGGERS = ['statfs_lock_purge'] as const;
const SERVER_TRIGGERS = [
  'log_merge_force_finalize_ours', 'reclaim_skip_finalize', 'srch_force_log_rotate',
] as const;

/** Those of upstream's that exist here. */
export const TRIGGER_NAMES = [...MOUNT_TRIGGERS, ...SERVER_TRIGGERS] as const;

export type TriggerName = (typeof TRIGGER_NAMES)[number];

/** Whether the code of a trigger is the server's. */
export function isServerTrigger(name: TriggerName): boolean {
  return (SERVER_TRIGGERS as readonly string[]).includes(name);
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
