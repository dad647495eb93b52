/**
 * WebAssembly memories that are used again.
 *
 * Every core has a memory of its own, and to get one from the system takes longer than all
 * that a simulated mount does in it. So memories are kept: what a run has taken comes back,
 * zeroed, to the next. Smaller ones are slabs that outlive a run (alignedMemory): they are
 * never given out twice. A run that mounts again and again takes more than are kept; those
 * are left to the collector.
 */

type Memory = WebAssembly.Memory;

/** Memories of cores, in WebAssembly pages of 64 KiB. */
const KEPT_PAGES_MIN = 64;
const KEPT_MAX = 64;

const free = new Map<number, Memory[]>();
let taken: { pages: number; memory: Memory }[] = [];
let installed = false;

/** From now on memories come from here. */
export function installMemoryPool(): void {
  if (installed) return;
  installed = true;
  const Real = WebAssembly.Memory;
  const pooled = function pooled(d: { initial: number; maximum?: number }): Memory {
    if (d.initial < KEPT_PAGES_MIN || taken.length >= KEPT_MAX) return new Real(d);
    const kept = free.get(d.initial)?.pop();
    if (kept !== undefined) new Uint8Array(kept.buffer).fill(0);
    const memory = kept ?? new Real(d);
    taken.push({ pages: d.initial, memory });
    return memory;
  };
  pooled.prototype = Real.prototype;
  WebAssembly.Memory = pooled as unknown as typeof Real;
}

/** A run has ended: nothing of it is used any more. */
export function releaseMemories(): void {
  for (const { pages, memory } of taken) {
    const list = free.get(pages) ?? [];
    list.push(memory);
    free.set(pages, list);
  }
  taken = [];
}
