/**
 * Where the fields of a structure are, found out from its codec.
 *
 * Each byte of a zeroed structure is set in turn; the member that then reads differently
 * is the one that the byte belongs to. So there is no second table of layouts that could
 * be wrong. Bytes that no member sees are padding, which damage may reach as well.
 */

/** A run of bytes that are read as one number. `name` is the member's path. */
export interface Field {
  readonly name: string;
  readonly off: number;
  readonly len: number;
}

export interface ReadCodec {
  readonly size: number;
  read(v: DataView, o: number): unknown;
}

export const PADDING = 'padding';
const FIELD_BYTES_MAX = 8;

const known = new Map<ReadCodec, readonly Field[]>();

/** The fields of a structure, in the order of their offsets. */
export function fieldsOf(codec: ReadCodec): readonly Field[] {
  const before = known.get(codec);
  if (before !== undefined) return before;
  const fields = grouped(namesOfBytes(codec));
  known.set(codec, fields);
  return fields;
}

/** Fields for bytes that have no structure. */
export function rawFields(name: string, off: number, len: number): Field[] {
  return Array.from({ length: Math.max(0, len) }, (_, i) => ({ name, off: off + i, len: 1 }));
}

function namesOfBytes(codec: ReadCodec): string[] {
  const v = new DataView(new ArrayBuffer(codec.size));
  const blank = flat(codec.read(v, 0));
  const names: string[] = [];
  for (let o = 0; o < codec.size; o++) {
    v.setUint8(o, 1);
    try {
      const now = flat(codec.read(v, 0));
      names.push([...now.keys()].find((k) => now.get(k) !== blank.get(k)) ?? PADDING);
    } catch {
      // too large a count: its low bytes have named it
      names.push(names[o - 1] ?? PADDING);
    }
    v.setUint8(o, 0);
  }
  return names;
}

function grouped(names: readonly string[]): Field[] {
  const fields: Field[] = [];
  for (let o = 0; o < names.length;) {
    const name = names[o] ?? PADDING;
    let end = o + 1;
    while (end < names.length && names[end] === name && end - o < FIELD_BYTES_MAX) end++;
    fields.push({ name, off: o, len: end - o });
    o = end;
  }
  return fields;
}

/** All numbers in a value by their path. */
function flat(value: unknown, path = '', into = new Map<string, string>()): Map<string, string> {
  if (typeof value === 'object' && value !== null) {
    for (const [k, v] of Object.entries(value)) flat(v, path === '' ? k : `${path}.${k}`, into);
  } else {
    into.set(path, String(value));
  }
  return into;
}
