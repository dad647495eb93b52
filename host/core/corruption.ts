/**
 * Corruptions that the core can find, by the number it reports them with.
 * The ids are stable; upstream's names are used where upstream knows the kind.
 */

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
];

/** The corruption with the core's number. */
export function coreCorruption(nr: number): { id: string; text: string } {
  return CORE_CORRUPTIONS[nr] ?? { id: 'CORE_UNKNOWN', text: `unknown corruption ${nr}` };
}
