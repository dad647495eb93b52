/**
 * Page-aligned memory for requests and read replies.
 *
 *   slot   0            4016        4096                           1.06 MiB
 *          ╒════════════╤═══════════╤════════════════════════════════╕
 *          │ unused     │ headers 80│ payload                        │
 *          ╘════════════╧═══════════╧════════════════════════════════╛
 *
 * A request is read to byte 4016 of a slot: the 40 byte header and the 40 byte
 * WRITE header end on the page boundary and the payload starts there, so that it
 * can go to a device with direct I/O without being copied. The same slots are
 * lent to readers, who fill `payload` from the device and reply from it.
 *
 * A slot is in use while its hold count is positive. Slots of the arena are used
 * last in, first out, so that a lone caller touches the same memory again. When all are
 * in use further ones are made one by one and dropped after use; how many there can be is
 * bounded by the callers the kernel lets wait.
 */
import { alignedMemory } from './device.js';
import { assert } from '../observe/errors.js';

/** Where in a slot a request is read to. */
export const REQUEST_OFF = 4096 - 80;
/** Where in a slot the payload of a WRITE lies. */
export const PAYLOAD_OFF = 4096;
/** Size of a slot: a 1 MiB payload, one page before it and room for unaligned ends. */
export const SLOT_BYTES = (1 << 20) + 65536;
const ARENA_SLOTS = 128;

/** One piece of request memory. */
export class Slot {
  readonly view: DataView;
  /** Where a request is read to. */
  readonly request: Uint8Array;
  /** Everything from the page boundary on. */
  readonly payload: Uint8Array;
  private holds = 0;

  constructor(readonly bytes: Uint8Array, private readonly home: Slot[] | null) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.request = bytes.subarray(REQUEST_OFF);
    this.payload = bytes.subarray(PAYLOAD_OFF);
  }

  /** Somebody beside its first holder uses it. */
  get shared(): boolean {
    return this.holds > 1;
  }

  hold(): void {
    this.holds++;
  }

  /** Undoes one hold; the last one gives the slot back. */
  unhold(): void {
    assert(this.holds > 0, 'slot is held');
    this.holds--;
    if (this.holds === 0 && this.home !== null) this.home.push(this);
  }
}

/** The slots of one device. */
export class SlotPool {
  private readonly free: Slot[] = [];

  constructor(slots = ARENA_SLOTS) {
    const arena = alignedMemory(slots * SLOT_BYTES);
    for (let i = slots - 1; i >= 0; i--) {
      this.free.push(new Slot(arena.subarray(i * SLOT_BYTES, (i + 1) * SLOT_BYTES), this.free));
    }
  }

  get freeCount(): number {
    return this.free.length;
  }

  /** A slot with one hold. */
  take(): Slot {
    const slot = this.free.pop() ?? new Slot(alignedMemory(SLOT_BYTES), null);
    slot.hold();
    return slot;
  }
}
