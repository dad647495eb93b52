/**
 * What became of one seed of the fuzzer of protocols.
 */
export interface WireResult {
  /** sent by the hostile side */
  messages: number;
  /** answered with an error, or dropped and counted */
  refused: number;
  /** ended their connection */
  closed: number;
  logLines: number;
  /** null: nothing that must not be */
  failure: string | null;
}

export function emptyResult(): WireResult {
  return { messages: 0, refused: 0, closed: 0, logLines: 0, failure: null };
}

/** Runs a case. Never rejects: what it fails with is its failure, with what was done last. */
export async function resultOf(c: { result: WireResult; last: string; run(): Promise<void> }):
Promise<WireResult> {
  try {
    await c.run();
  } catch (e) {
    c.result.failure ??= e instanceof Error ? e.stack ?? e.message : String(e);
  }
  if (c.result.failure !== null) c.result.failure += `\n  after: ${c.last}`;
  return c.result;
}

/** What no log may say. */
export const DEFECT = new RegExp('assertion failed|internal error|TypeError|RangeError|' +
  'out of bounds|unreachable|of undefined|of null|not a function|call stack|Invalid array|' +
  'not an exact');
