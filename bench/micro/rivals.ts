/**
 * What plain JavaScript would use instead of the item cache: a Map by string key, and an
 * array that is kept in key order by binary search.
 */

export interface Row {
  zone: number;
  first: number;
  type: number;
  second: number;
  third: number;
  val: Uint8Array;
}

/** The five fields as one string: unordered, but unique. */
export function mapKey(zone: number, first: number, type: number, second: number,
  third: number): string {
  return `${zone}.${first}.${type}.${second}.${third}`;
}

export class SortedArray {
  private readonly rows: Row[] = [];

  insert(zone: number, first: number, type: number, second: number, third: number,
    val: Uint8Array): void {
    this.rows.splice(this.place(zone, first, type, second, third), 0,
      { zone, first, type, second, third, val });
  }

  find(zone: number, first: number, type: number, second: number, third: number):
  Uint8Array | null {
    const r = this.rows[this.place(zone, first, type, second, third)];
    return r?.second === second && r.third === third && r.first === first && r.type === type &&
      r.zone === zone ? r.val : null;
  }

  at(i: number): Row | undefined {
    return this.rows[i];
  }

  /** Place of the first row at or after the key. */
  private place(zone: number, first: number, type: number, second: number, third: number): number {
    let lo = 0;
    let hi = this.rows.length;
    while (lo < hi) {
      const mid = lo + hi >> 1;
      const r = this.rows[mid];
      if (r === undefined) return lo;
      const c = r.zone - zone || r.first - first || r.type - type || r.second - second ||
        r.third - third;
      if (c < 0) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }
}
