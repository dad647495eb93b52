/**
 * The AVL tree that sorts the items of a btree block.
 *
 * Nodes are the first 8 bytes of the items:
 *
 *  ╒═════════╤═══════╤════════╤════════╤═════╕
 *  │ parent 2│ left 2│ right 2│height 1│pad 1│
 *  ╘═════════╧═══════╧════════╧════════╧═════╛
 *
 * Links are offsets from the 2-byte root (byte 32 of the block), 0 for none; here
 * `base` is the address of that root and node addresses are base + offset. The
 * walk to the root after a change never stops early, so it also repairs the wrong
 * heights that mkfs writes. Source: btree.md 2.2, vectors core-vectors.json → avl.
 */

const PARENT: usize = 0;
const LEFT: usize = 2;
const RIGHT: usize = 4;
const HEIGHT: usize = 6;

@inline function at(base: usize, off: u16): usize { return off == 0 ? 0 : base + <usize>off; }
@inline function off(base: usize, node: usize): u16 { return node == 0 ? 0 : <u16>(node - base); }

@inline export function avlRoot(base: usize): usize { return at(base, load<u16>(base)); }
@inline export function avlLeft(base: usize, n: usize): usize {
  return at(base, load<u16>(n, LEFT));
}
@inline export function avlRight(base: usize, n: usize): usize {
  return at(base, load<u16>(n, RIGHT));
}
@inline function parentOf(base: usize, n: usize): usize { return at(base, load<u16>(n, PARENT)); }
@inline function height(n: usize): i32 { return n == 0 ? 0 : <i32>load<u8>(n, HEIGHT); }

/** Height of the root node. */
export function avlHeight(base: usize): i32 { return height(avlRoot(base)); }

export function avlFirst(base: usize): usize {
  let n = avlRoot(base);
  while (n != 0 && load<u16>(n, LEFT) != 0) n = avlLeft(base, n);
  return n;
}

export function avlLast(base: usize): usize {
  let n = avlRoot(base);
  while (n != 0 && load<u16>(n, RIGHT) != 0) n = avlRight(base, n);
  return n;
}

/** In-order successor, 0 after the last. */
export function avlNext(base: usize, n: usize): usize {
  if (load<u16>(n, RIGHT) != 0) {
    n = avlRight(base, n);
    while (load<u16>(n, LEFT) != 0) n = avlLeft(base, n);
    return n;
  }
  let p = parentOf(base, n);
  while (p != 0 && avlRight(base, p) == n) {
    n = p;
    p = parentOf(base, p);
  }
  return p;
}

/** In-order predecessor, 0 before the first. */
export function avlPrev(base: usize, n: usize): usize {
  if (load<u16>(n, LEFT) != 0) {
    n = avlLeft(base, n);
    while (load<u16>(n, RIGHT) != 0) n = avlRight(base, n);
    return n;
  }
  let p = parentOf(base, n);
  while (p != 0 && avlLeft(base, p) == n) {
    n = p;
    p = parentOf(base, p);
  }
  return p;
}

function setHeight(base: usize, n: usize): void {
  const l = height(avlLeft(base, n));
  const r = height(avlRight(base, n));
  store<u8>(n, <u8>(1 + max(l, r)), HEIGHT);
}

@inline function balance(base: usize, n: usize): i32 {
  return height(avlRight(base, n)) - height(avlLeft(base, n));
}

/** Makes `child` take the place of `n` below n's parent. */
function replaceChild(base: usize, n: usize, child: usize): void {
  const p = parentOf(base, n);
  if (p == 0) store<u16>(base, off(base, child));
  else if (avlLeft(base, p) == n) store<u16>(p, off(base, child), LEFT);
  else store<u16>(p, off(base, child), RIGHT);
  if (child != 0) store<u16>(child, off(base, p), PARENT);
}

function rotateLeft(base: usize, n: usize): usize {
  const r = avlRight(base, n);
  const inner = avlLeft(base, r);
  replaceChild(base, n, r);
  store<u16>(r, off(base, n), LEFT);
  store<u16>(n, off(base, r), PARENT);
  store<u16>(n, off(base, inner), RIGHT);
  if (inner != 0) store<u16>(inner, off(base, n), PARENT);
  setHeight(base, n);
  setHeight(base, r);
  return r;
}

function rotateRight(base: usize, n: usize): usize {
  const l = avlLeft(base, n);
  const inner = avlRight(base, l);
  replaceChild(base, n, l);
  store<u16>(l, off(base, n), RIGHT);
  store<u16>(n, off(base, l), PARENT);
  store<u16>(n, off(base, inner), LEFT);
  if (inner != 0) store<u16>(inner, off(base, n), PARENT);
  setHeight(base, n);
  setHeight(base, l);
  return l;
}

function rebalance(base: usize, n: usize): usize {
  const b = balance(base, n);
  if (b > 1) {
    const r = avlRight(base, n);
    if (balance(base, r) < 0) rotateRight(base, r);
    return rotateLeft(base, n);
  }
  if (b < -1) {
    const l = avlLeft(base, n);
    if (balance(base, l) > 0) rotateLeft(base, l);
    return rotateRight(base, n);
  }
  return n;
}

function fixUp(base: usize, n: usize): void {
  while (n != 0) {
    setHeight(base, n);
    n = parentOf(base, rebalance(base, n));
  }
}

/** Links `node` below `parent` (0: the tree is empty) on the side the search ended. */
export function avlInsert(base: usize, parent: usize, isLeft: bool, node: usize): void {
  store<u16>(node, off(base, parent), PARENT);
  store<u16>(node, 0, LEFT);
  store<u16>(node, 0, RIGHT);
  store<u16>(node, 1, HEIGHT);
  if (parent == 0) store<u16>(base, off(base, node));
  else if (isLeft) store<u16>(parent, off(base, node), LEFT);
  else store<u16>(parent, off(base, node), RIGHT);
  fixUp(base, parent);
}

/** Exchanges the places of a node and its in-order successor below it. */
function swapWithSuccessor(base: usize, node: usize, next: usize): void {
  const nextParent = parentOf(base, next);
  const nextRight = avlRight(base, next);
  const h = load<u8>(next, HEIGHT);
  replaceChild(base, node, next);
  store<u8>(next, load<u8>(node, HEIGHT), HEIGHT);
  store<u8>(node, h, HEIGHT);
  const left = avlLeft(base, node);
  store<u16>(next, off(base, left), LEFT);
  store<u16>(left, off(base, next), PARENT);
  if (nextParent == node) {
    store<u16>(next, off(base, node), RIGHT);
    store<u16>(node, off(base, next), PARENT);
  } else {
    const right = avlRight(base, node);
    store<u16>(next, off(base, right), RIGHT);
    store<u16>(right, off(base, next), PARENT);
    store<u16>(nextParent, off(base, node), LEFT);
    store<u16>(node, off(base, nextParent), PARENT);
  }
  store<u16>(node, 0, LEFT);
  store<u16>(node, off(base, nextRight), RIGHT);
  if (nextRight != 0) store<u16>(nextRight, off(base, node), PARENT);
}

/** Unlinks a node. */
export function avlDelete(base: usize, node: usize): void {
  if (load<u16>(node, LEFT) != 0 && load<u16>(node, RIGHT) != 0) {
    swapWithSuccessor(base, node, avlNext(base, node));
  }
  const left = avlLeft(base, node);
  const child = left != 0 ? left : avlRight(base, node);
  const parent = parentOf(base, node);
  replaceChild(base, node, child);
  fixUp(base, parent);
}

/** The item at `from` moved to `to` (contents copied by the caller): repairs every link to it. */
export function avlRelocate(base: usize, to: usize, from: usize): void {
  const p = parentOf(base, from);
  memory.copy(to, from, 8);
  if (p == 0) store<u16>(base, off(base, to));
  else if (avlLeft(base, p) == from) store<u16>(p, off(base, to), LEFT);
  else store<u16>(p, off(base, to), RIGHT);
  const l = avlLeft(base, to);
  const r = avlRight(base, to);
  if (l != 0) store<u16>(l, off(base, to), PARENT);
  if (r != 0) store<u16>(r, off(base, to), PARENT);
}
