/**
 * Reads the TAP that `tap run --reporter=tap` printed and prints, as its only
 * line, `N passed, N failed`: assertions, without skipped and to-do ones. node-tap
 * ends its output with the totals; where they are missing the run died, and that
 * is a failure too.
 *
 * usage: node scripts/summary.js TAP-FILE EXIT-STATUS
 */
import { readFileSync } from 'node:fs';

const TOTALS = /^# \{ total: \d+(?:, pass: (\d+))?(?:, fail: (\d+))?.*\}$/;

/** Passed and failed assertions of a whole run. */
export function summarize(tap, exitStatus) {
  const totals = tap.split('\n').map((line) => TOTALS.exec(line)).filter((m) => m !== null).pop();
  const passed = Number(totals?.[1] ?? 0);
  let failed = Number(totals?.[2] ?? 0);
  // A crash outside every assertion shows only in the exit status.
  if (failed === 0 && (exitStatus !== 0 || totals === undefined)) failed = 1;
  return `${passed} passed, ${failed} failed`;
}

const [file, status] = process.argv.slice(2);
if (file !== undefined) {
  let tap = '';
  try {
    tap = readFileSync(file, 'utf8');
  } catch (e) {
    console.error(`${file}: ${e.message}`);
  }
  console.log(summarize(tap, Number(status ?? 0)));
}
