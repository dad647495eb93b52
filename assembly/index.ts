/**
 * The one entry of the core: what the host and the tests may call.
 */
export {
  keyCmp, keyEq, keyCopy, keyZeros, keyOnes, keyInc, keyDec, keyIsZeros, keyIsOnes, keySet,
} from './key';
export { fnv32, fnv64, nameFingerprint, nameHash } from './hash';
export { crc32c } from './crc32c';
export { heapInit, heapAlloc, heapFree, heapFreeBytes, heapLargestFree } from './heap';
export { deltaCombine } from './delta';
export { checkId } from './check';
export { countersAt } from './count';
export * from './core';
export {
  blockReadDone, blockUnpin, blockIsReading, blockNeedNr, blockNrDirty, blockNrFree, blockForget,
  blockEvictAll, blockStaleNext, wsetForget, wsetList, wsetCount, corruptId, corruptBlkno,
} from './block';
export * from './core_items';
export * from './core_srch';
export { testSrchRef } from './testing';
