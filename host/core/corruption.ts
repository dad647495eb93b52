/**
 * Corruptions that the core can find, by the number it reports them with, and the
 * invariants of its own that it checks, by the number they end a call with.
 * The ids are stable; upstream's names are used where upstream knows the kind.
 */
import { ScoutfsError } from '../observe/errors.js';

const CORE_CORRUPTIONS: readonly { id: string; text: string }[] = [
  { id: 'SC_NONE', text: 'no corruption' },
  { id: 'BLOCK_REF', text: 'a reference points outside the metadata device' },
  { id: 'BTREE_STRUCT', text: 'the structure of a btree block is inconsistent' },
  { id: 'ALLOC_LIST_STRUCT', text: 'the window of an alloc list block is impossible' },
  { id: 'SC_BTREE_BLOCK_LEVEL', text: 'a btree block has an unexpected level' },
  { id: 'SC_BTREE_NO_CHILD_REF', text: 'a btree parent has no child for a key' },
  { id: 'BTREE_HEIGHT', text: 'a btree is higher than the format allows' },
  { id: 'ALLOC_BLKNO_IN_USE', text: 'an allocator offers a block that is in use' },
  { id: 'ALLOC_LIST_HEAD', text: 'the head of an alloc list disagrees with its blocks' },
  { id: 'ALLOC_EXTENT', text: 'a free extent is impossible or lacks one of its two items' },
  { id: 'BLOCK_HEADER', text: 'a block is not the one that is referred to' },
  { id: 'BLOCK_CHECKSUM', text: 'the checksum of a block does not match' },
  { id: 'SRCH_FILE', text: 'the blocks of a srch file do not fit what is recorded of it' },
  { id: 'SRCH_BLOCK', text: 'the counts of a srch block are impossible' },
];

/** The corruption with the core's number. */
export function coreCorruption(nr: number): { id: string; text: string } {
  return CORE_CORRUPTIONS[nr] ?? { id: 'CORE_UNKNOWN', text: `unknown corruption ${nr}` };
}

/** Numbers as in assembly/check.ts; 0 is a check that the compiler put in. */
const INVARIANTS = new Map<number, string>([
  [0, 'a runtime check of the core failed'],
  [1, 'memory was freed twice or with another length'],
  [2, 'an address outside the heap was freed'],
  [10, 'an item page has less room than was planned for'],
  [11, 'the items of a page are out of order'],
  [12, 'the bounds of an item page are inverted'],
  [13, 'item pages overlap'],
  [14, 'dirty items were to be dropped'],
  [15, 'the counts of an item page are wrong'],
  [16, 'the memory of an item page is inconsistent'],
  [17, 'an item was used under a lock that does not allow it'],
  [18, 'a srch entry was to be put behind the end of its block'],
  [19, 'a srch entry was appended without preparation'],
  [403, 'a merge window is too small for its work'],
]);

/** A broken invariant as an error: a defect of the program, not of the volume. */
export function brokenInvariant(nr: number): ScoutfsError {
  return new ScoutfsError('CORE_INVARIANT', 'EIO', {
    message: `internal error ${nr}: ${INVARIANTS.get(nr) ?? 'a broken invariant'}`, data: { nr },
  });
}
