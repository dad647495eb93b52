/**
 * The tree of small text files that show and take values of one mount, where upstream
 * has sysfs and debugfs.
 *
 * This is only the tree, in memory: names, and what makes a file's text or takes what
 * was written to it. `host/fs/control_fs.ts` shows it to the kernel, `host/super/control.ts`
 * mounts it. So a text is made when somebody reads, and a value that cannot be taken is
 * the writer's error, at the write(2) itself.
 *
 *   tree.add('mount_options/lock_idle_count', {
 *     read: () => String(options.lockIdleCount),
 *     write: (text) => { setOption('lock_idle_count', text); },
 *   });
 *
 * Names and formats: cli.md 3.
 */
import { errnoError } from './errors.js';

/** Inode number of the tree's root: FUSE's own. */
export const CONTROL_ROOT_INO = 1;

export interface ControlFile {
  /** The text to show, with a line break only where upstream has one. Absent: no text. */
  read?(): string | Promise<string>;
  /** Takes what one write(2) brought. @throws, or rejects with, what the writer gets */
  write?(text: string): void | Promise<void>;
  /** Shown with write permission although nothing can be written, as some are upstream. */
  looksWritable?: boolean;
}

/** A directory (`children`) or a file. */
export interface ControlNode {
  readonly ino: number;
  readonly name: string;
  readonly parent: ControlNode | null;
  readonly children: Map<string, ControlNode> | null;
  readonly file: ControlFile | null;
}

export class ControlTree {
  readonly root: ControlNode;
  private readonly nodes = new Map<number, ControlNode>();
  private lastIno = CONTROL_ROOT_INO - 1;

  constructor() {
    this.root = this.make('', null, null);
  }

  /** Adds a file and the directories above it; replaces one of the same name. */
  add(path: string, file: ControlFile): void {
    const names = path.split('/');
    const name = names.pop() ?? '';
    const dir = names.reduce((at, part) => this.dirIn(at, part), this.root);
    const old = dir.children?.get(name);
    if (old !== undefined) this.nodes.delete(old.ino);
    dir.children?.set(name, this.make(name, dir, file));
  }

  /** Makes a directory, if there is none. */
  addDir(path: string): void {
    path.split('/').reduce((at, part) => this.dirIn(at, part), this.root);
  }

  /** Removes a file, or a directory with everything in it; nothing when there is none. */
  remove(path: string): void {
    const node = this.find(path);
    if (node === null || node.parent === null) return;
    node.parent.children?.delete(node.name);
    this.forget(node);
  }

  /** The node of an inode number; null when it was removed. Numbers are never used again. */
  node(ino: number): ControlNode | null {
    return this.nodes.get(ino) ?? null;
  }

  /** The node at a path relative to the root. */
  find(path: string): ControlNode | null {
    let at: ControlNode | null = this.root;
    for (const part of path.split('/')) at = at?.children?.get(part) ?? null;
    return at;
  }

  /** What a reader of the file sees. @throws ENOENT, EISDIR, and what making the text throws */
  async read(path: string): Promise<string> {
    return await this.file(path).read?.() ?? '';
  }

  /** Writes to a file. @throws ENOENT, EISDIR, EACCES, and what taking the text throws */
  async write(path: string, text: string): Promise<void> {
    const file = this.file(path);
    if (file.write === undefined) throw errnoError('EACCES', `${path} cannot be written`);
    await file.write(text);
  }

  private file(path: string): ControlFile {
    const node = this.find(path);
    if (node === null) throw errnoError('ENOENT', `${path}: no such control file`);
    if (node.file === null) throw errnoError('EISDIR', `${path}: is a directory`);
    return node.file;
  }

  private dirIn(parent: ControlNode, name: string): ControlNode {
    const found = parent.children?.get(name);
    if (found !== undefined) return found;
    const dir = this.make(name, parent, null);
    parent.children?.set(name, dir);
    return dir;
  }

  private make(name: string, parent: ControlNode | null, file: ControlFile | null): ControlNode {
    const node: ControlNode = {
      ino: ++this.lastIno, name, parent, file,
      children: file === null ? new Map<string, ControlNode>() : null,
    };
    this.nodes.set(node.ino, node);
    return node;
  }

  private forget(node: ControlNode): void {
    this.nodes.delete(node.ino);
    for (const child of node.children?.values() ?? []) this.forget(child);
  }
}
