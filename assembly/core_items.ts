/**
 * What the host may call of the item cache, the forest and the locks.
 */
export { lockAlloc, lockFree, lockLastDirtySeq, lockMode, lockSetMode } from './lock';
export {
  itemInit, itemSetTransSeq, itemReserve, itemLookup, itemTouch, itemNext, itemCreate, itemUpdate,
  itemDelete, itemCreateForce, itemDeleteForce, itemLookupKey, itemTouchKey, itemNextKey,
  itemCreateKey, itemUpdateKey, itemDirtyKey, itemDeleteKey, itemCreateForceKey,
  itemDeleteForceKey, itemDeltaKey,
} from './item';
export {
  itemLookupName, itemTouchName, itemCreateEntry, itemDeleteEntry, itemLookupXattr, itemXattrHash,
} from './entry';
export { itemInvalidate, itemRangeCached, itemShrink, itemEvictAll } from './item_range';
export { itemBarrier, itemMaxDirtySeq, itemWriteDone } from './item_write';
export { forestRead, forestReadWeak, forestNextHint, forestSetBloom, forestWrite } from './forest';
export { bloomBit } from './bloom';
export { totlAddSeq, totlBegin, totlResolve } from './totl';
export { itemDirtyItems } from './page';
export { itemDirtyPages, itemPages, itemFreePages, pageVerify } from './pages';
export { testFill } from './testing';
