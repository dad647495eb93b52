/**
 * What trials of a cluster on hosts of their own have in common: a load on every node, the
 * problems that were seen, and what is worth being told.
 *
 * A trial puts the cluster through one loss after the other and then sees what is left of it;
 * a trial that breaks off tells the ends of all logs.
 */
import type { ClusterNode, ClusterMounts } from '../lib/clustermounts.js';
import { Load, Promised } from './load.js';

export interface TrialResult {
  problems: readonly string[];
  /** What is worth being told: times. */
  notes: readonly string[];
}

/** `L` is what a loss is. */
export abstract class Trial<L> implements TrialResult {
  readonly problems: string[] = [];
  readonly notes: string[] = [];
  protected readonly promised = new Promised();
  protected readonly loads: Load[];

  constructor(protected readonly cluster: ClusterMounts,
    private readonly told: (note: string) => void) {
    this.loads = cluster.nodes.map((n) => new Load(n.mnt, this.promised));
  }

  /** One loss, from a cluster that works to one that works again. */
  protected abstract run(loss: L): Promise<void>;

  /** Everything that must hold at the end. */
  protected abstract finish(): Promise<void>;

  async runAll(losses: readonly L[]): Promise<void> {
    try {
      for (const l of losses) await this.run(l);
      await this.finish();
    } catch (e) {
      throw new Error(this.cluster.nodes.map((n) => n.logTail()).join(''), { cause: e });
    }
  }

  protected problem(text: string): void {
    this.problems.push(text);
    this.told(text);
  }

  protected note(text: string): void {
    this.notes.push(text);
    this.told(text);
  }

  protected load(n: ClusterNode): Load {
    const load = this.loads[n.nr];
    if (load === undefined) throw new Error(`no load ${n.nr}`);
    return load;
  }

  /** Each of the nodes has done something that began after now. */
  protected async working(nodes: readonly ClusterNode[] = this.cluster.nodes): Promise<void> {
    const sinceMs = Date.now();
    await Promise.all(nodes.map((n) => this.load(n).first(sinceMs)));
  }
}
