/**
 * Two lint rules of our own.
 *
 * `rows`: the program is a stack of rows and an import may only go down it
 * (architecture 1). host/env and host/observe stand beside the stack: everybody
 * may use them, they use no row. Tests and benchmarks may import anything, and
 * nothing in host/ may import a test or a benchmark.
 *
 * `effects`: clocks, timers, chance, sockets, threads and files belong to
 * host/env. Everything else gets them passed in, so that a whole cluster can run
 * under a simulated clock. The few modules that have to open ordinary files (the
 * command line, log files, the assembly of a mount) may use node:fs.
 */
import { dirname, join, relative, resolve, sep } from 'node:path';

/** Rows from the bottom up; a row may import those before it in this list and itself. */
const ROWS = ['core', 'disk', 'net', 'server', 'mount', 'fs', 'fuse', 'super', 'cli'];
const BESIDE = new Set(['env', 'observe']);

/** Modules in host/ itself, above the rows they assemble. */
const TOP_FILES = new Set(['super', 'index']);

const TIMERS = new Set([
  'Date', 'setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval',
  'clearImmediate', 'performance',
]);
const MEMBERS = new Map([['Math', new Set(['random'])], ['process', new Set(['hrtime'])]]);
const EFFECT_MODULES = new Set([
  'node:net', 'node:dgram', 'node:tls', 'node:worker_threads', 'node:timers',
  'node:timers/promises', 'node:perf_hooks',
]);
const FILE_MODULES = new Set(['node:fs', 'node:fs/promises']);
const MAY_USE_FILES = ['host/env/', 'host/cli/', 'host/observe/', 'host/super.ts'];
const RANDOM_NAMES = new Set(['randomBytes', 'randomUUID', 'randomInt', 'randomFillSync']);

/** Path of a linted file relative to the repository, with forward slashes. */
function repoPath(context) {
  return relative(context.cwd, context.filename).split(sep).join('/');
}

/** The row that a repository path belongs to; null for paths outside host/. */
function rowOf(path) {
  const m = /^host\/([^/]+)(\/|$)/.exec(path);
  if (m === null) return null;
  if (m[2] === '/') return m[1];
  const base = m[1].replace(/\.[jt]s$/, '');
  return TOP_FILES.has(base) ? 'super' : base;
}

/** What is wrong with `from` importing `to` (repository paths), or null. */
function climb(from, to) {
  const fromRow = rowOf(from);
  if (fromRow === null) return null;
  const toRow = rowOf(to);
  if (toRow === null) {
    return /^(test|bench|dist)\//.test(to) ? `${from} imports ${to}, which is not product code` : null;
  }
  if (BESIDE.has(toRow)) return null;
  if (BESIDE.has(fromRow)) return `host/${fromRow} stands beside the rows and imports none: ${to}`;
  const fromRank = ROWS.indexOf(fromRow);
  const toRank = ROWS.indexOf(toRow);
  if (fromRank < 0) return `${from} is in no row (${ROWS.join(' < ')})`;
  if (toRank < 0) return `${to} is in no row (${ROWS.join(' < ')})`;
  return toRank > fromRank ? `import climbs from row '${fromRow}' to row '${toRow}': ${to}` : null;
}

/** Calls `visit(node, specifier)` for everything that imports a module by a constant name. */
function eachImport(visit) {
  const declared = (node) => {
    if (node.source !== null && typeof node.source.value === 'string') visit(node, node.source.value);
  };
  return {
    ImportDeclaration: declared,
    ExportNamedDeclaration: declared,
    ExportAllDeclaration: declared,
    ImportExpression: declared,
    TSImportType(node) {
      const literal = node.source ?? node.argument?.literal;
      if (typeof literal?.value === 'string') visit(node, literal.value);
    },
  };
}

const rows = {
  meta: { type: 'problem', schema: [], docs: { description: 'imports go down the rows only' } },
  create(context) {
    const from = repoPath(context);
    return eachImport((node, specifier) => {
      if (!specifier.startsWith('.')) return;
      const abs = resolve(dirname(join(context.cwd, from)), specifier);
      const to = relative(context.cwd, abs).split(sep).join('/');
      const message = climb(from, to);
      if (message !== null) context.report({ node, message });
    });
  },
};

/** Reports `import { randomBytes } from 'node:crypto'` and its kin. */
function reportRandomImports(context, node) {
  for (const s of node.specifiers ?? []) {
    if (RANDOM_NAMES.has(s.imported?.name)) {
      context.report({ node: s, message: `${s.imported.name} is chance: take it from host/env` });
    }
  }
}

/** Whether `name` at `node` is the global of that name. */
function isGlobal(context, node, name) {
  for (let s = context.sourceCode.getScope(node); s !== null; s = s.upper) {
    const v = s.set.get(name);
    if (v !== undefined) return v.defs.length === 0;
  }
  return true;
}

const effects = {
  meta: { type: 'problem', schema: [], docs: { description: 'effects belong to host/env' } },
  create(context) {
    const from = repoPath(context);
    if (!from.startsWith('host/') || from.startsWith('host/env/')) return {};
    const mayUseFiles = MAY_USE_FILES.some((p) => from.startsWith(p));
    const report = (node, what) => {
      context.report({ node, message: `${what} is an effect: take it from host/env` });
    };
    return {
      ...eachImport((node, specifier) => {
        const name = specifier.startsWith('node:') ? specifier : `node:${specifier}`;
        if (EFFECT_MODULES.has(name)) report(node, specifier);
        if (FILE_MODULES.has(name) && node.importKind !== 'type' && !mayUseFiles) {
          report(node, specifier);
        }
        if (name === 'node:crypto') reportRandomImports(context, node);
      }),
      'Program:exit'(program) {
        const scope = context.sourceCode.getScope(program);
        const globals = [...scope.through, ...scope.variables.flatMap((v) =>
          v.defs.length === 0 ? v.references : [])];
        for (const ref of globals) {
          if (TIMERS.has(ref.identifier.name) && ref.isValueReference !== false) {
            report(ref.identifier, ref.identifier.name);
          }
        }
      },
      MemberExpression(node) {
        const members = node.object.type === 'Identifier' ? MEMBERS.get(node.object.name) : undefined;
        const name = node.computed ? node.property.value : node.property.name;
        if (members?.has(name) === true && isGlobal(context, node, node.object.name)) {
          report(node, `${node.object.name}.${name}`);
        }
      },
    };
  },
};

export default { meta: { name: 'scoutfs', version: '1.0.0' }, rules: { rows, effects } };
