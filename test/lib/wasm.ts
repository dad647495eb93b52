/**
 * The exports of a wasm module: functions with the types of their parameters and
 * results, which JavaScript's own reflection does not tell.
 */

export interface WasmFunction {
  params: string[];
  results: string[];
}

const TYPE_SECTION = 1;
const IMPORT_SECTION = 2;
const FUNCTION_SECTION = 3;
const EXPORT_SECTION = 7;
const KIND_FUNCTION = 0;
const KIND_MEMORY = 2;
const KIND_GLOBAL = 3;
const TYPES: Record<number, string> = { 0x7f: 'i32', 0x7e: 'i64', 0x7d: 'f32', 0x7c: 'f64' };

/** Name to types of every exported function, and the names of exported globals. */
export function exportsOf(wasm: Uint8Array):
{ functions: Map<string, WasmFunction>; globals: Set<string> } {
  let at = 8;
  const u8 = (): number => wasm[at++] ?? 0;
  const leb = (): number => {
    let n = 0;
    for (let shift = 0; ; shift += 7) {
      const b = u8();
      n += (b & 127) * 2 ** shift;
      if (b < 128) return n;
    }
  };
  const list = <T>(read: () => T): T[] => Array.from({ length: leb() }, read);
  const name = (): string => {
    const len = leb();
    at += len;
    return Buffer.from(wasm.subarray(at - len, at)).toString();
  };
  const type = (): string => TYPES[u8()] ?? '?';
  const limits = (): void => {
    const bounded = (u8() & 1) !== 0;
    leb();
    if (bounded) leb();
  };
  let types: WasmFunction[] = [];
  let imported: number[] = [];
  let defined: number[] = [];
  const functions = new Map<string, WasmFunction>();
  const globals = new Set<string>();
  while (at < wasm.length) {
    const section = u8();
    const end = leb() + at;
    if (section === TYPE_SECTION) {
      types = list(() => {
        u8();
        return { params: list(type), results: list(type) };
      });
    } else if (section === IMPORT_SECTION) {
      imported = list(() => {
        name();
        name();
        const kind = u8();
        if (kind === KIND_FUNCTION) return leb();
        if (kind === KIND_MEMORY) limits();
        else if (kind === KIND_GLOBAL) at += 2;
        else throw new Error(`import of kind ${kind}`);
        return -1;
      }).filter((t) => t >= 0);
    } else if (section === FUNCTION_SECTION) {
      defined = list(leb);
    } else if (section === EXPORT_SECTION) {
      for (const [n, kind, index] of list(() => [name(), u8(), leb()] as const)) {
        const fn = types[[...imported, ...defined][index] ?? -1];
        if (kind === KIND_FUNCTION && fn !== undefined) functions.set(n, fn);
        if (kind === KIND_GLOBAL) globals.add(n);
      }
    }
    at = end;
  }
  return { functions, globals };
}
