/**
 * Paths for people: where in the tree the inodes are that findings name.
 *
 * Only done when there is something to name. One walk of the items collects the
 * links of those inodes, a second one the names of the directories above them,
 * which are known from the check. An inode with several links gets one path.
 */
import { Dirent, FS_ZONE, LINK_BACKREF_TYPE, ROOT_INO } from '../../core/format.js';
import type { Context } from './context.js';
import { Forest } from './forest.js';
import { num, typeOf, zoneOf } from './keys.js';
import type { LogTree } from './logs.js';
import type { Finding } from './report.js';

/** Findings that get a path. */
const NAMED_MAX = 100;
const DEPTH_MAX = 4096;

interface Link {
  parent: number;
  name: string;
}

/**
 * Fills in the paths of the first findings that name an inode.
 * @param quiet a context that reports nothing, made anew for each walk
 * @param parents parent of each linked directory
 */
export function namePaths(findings: Finding[], quiet: () => Context, logs: LogTree[],
  inputSeq: number, parents: ReadonlyMap<number, number>): void {
  const named = findings.filter((f) => f.ino !== undefined).slice(0, NAMED_MAX);
  if (named.length === 0) return;
  const links = new Map<number, Link>();
  collect(quiet(), logs, inputSeq, new Set(named.map((f) => f.ino ?? 0)), links);
  const above = new Set<number>();
  for (const { parent } of [...links.values()]) {
    let at: number | undefined = parent;
    while (at !== undefined && !above.has(at)) {
      above.add(at);
      at = parents.get(at);
    }
  }
  collect(quiet(), logs, inputSeq, above, links);
  for (const f of named) {
    const path = pathOf(f.ino ?? 0, links);
    if (path !== null) f.path = path;
  }
}

function collect(ctx: Context, logs: LogTree[], inputSeq: number, inos: Set<number>,
  links: Map<number, Link>): void {
  const forest = new Forest(ctx, logs, inputSeq);
  while (forest.next()) {
    const { view: v, keyOff: k, valOff: o, valLen } = forest.current;
    if (zoneOf(v, k) !== FS_ZONE || typeOf(v, k) !== LINK_BACKREF_TYPE) continue;
    const ino = num(v, k);
    if (!inos.has(ino) || links.has(ino)) continue;
    const name = Buffer.from(v.buffer, v.byteOffset + o + Dirent.size, valLen - Dirent.size);
    links.set(ino, { parent: num(v, k + 8), name: name.toString('utf8') });
  }
}

function pathOf(ino: number, links: Map<number, Link>): string | null {
  if (ino === ROOT_INO) return '/';
  const names: string[] = [];
  for (let at = ino; at !== ROOT_INO;) {
    const link = links.get(at);
    if (link === undefined || names.length > DEPTH_MAX) return null;
    names.unshift(link.name);
    at = link.parent;
  }
  return `/${names.join('/')}`;
}
