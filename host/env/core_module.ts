/**
 * The compiled core, from the package's build folder.
 */
import { readFileSync } from 'node:fs';

let bytes: Uint8Array | null = null;

/** The bytes of core.wasm, read once per process. @throws ENOENT when it was not built */
export function coreModuleBytes(): Uint8Array {
  bytes ??= readFileSync(new URL('../../../build/core.wasm', import.meta.url));
  return bytes;
}

let compiled: WebAssembly.Module | null = null;

/** core.wasm compiled once per thread: instances share its code. @throws ENOENT, as above */
export function coreModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(coreModuleBytes());
  return compiled;
}
