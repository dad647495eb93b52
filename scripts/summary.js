/**
 * Reads the TAP that `tap run --output-file` wrote and prints what failed, and last
 * `N passed, N failed`: assertions, without skipped and to-do ones. node-tap ends its
 * output with the totals; where they are missing the run died, and that is a failure too.
 *
 * What failed is printed again, although node-tap's report has it: of a long log often
 * only the end is kept.
 *
 * usage: node scripts/summary.js TAP-FILE EXIT-STATUS
 */
import { readFileSync } from 'node:fs';
import { Parser } from 'tap-parser';

const TOTALS = /^# \{ total: \d+(?:, pass: (\d+))?(?:, fail: (\d+))?.*\}$/;
/** Lines of what node-tap says of one failure; the rest is in its report. */
const DETAIL_LINES = 30;

/** Passed and failed assertions of a whole run. */
export function summarize(tap, exitStatus) {
  const totals = tap.split('\n').map((line) => TOTALS.exec(line)).filter((m) => m !== null).pop();
  const passed = Number(totals?.[1] ?? 0);
  let failed = Number(totals?.[2] ?? 0);
  // A crash outside every assertion shows only in the exit status.
  if (failed === 0 && (exitStatus !== 0 || totals === undefined)) failed = 1;
  return `${passed} passed, ${failed} failed`;
}

/** What node-tap says of a failure, but for the source lines around it. */
function detail(diag) {
  const said = Object.entries(diag ?? {})
    .filter(([key]) => key !== 'source' && key !== 'args')
    .flatMap(([key, value]) => {
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      return text.includes('\n') ? [`${key}:`, ...text.trimEnd().split('\n')] : [`${key}: ${text}`];
    });
  return said.slice(0, DETAIL_LINES).map((line) => `    ${line}`);
}

/** A line for each failed assertion, and what is known of it. */
export function failures(tap) {
  return Parser.parse(tap, { flat: true })
    .filter(([kind, result]) => kind === 'assert' && !result.ok && !result.todo && !result.skip)
    .flatMap(([, result]) => [`failed: ${result.fullname}`, ...detail(result.diag)]);
}

const [file, status] = process.argv.slice(2);
if (file !== undefined) {
  let tap = '';
  try {
    tap = readFileSync(file, 'utf8');
  } catch (e) {
    console.error(`${file}: ${e.message}`);
  }
  for (const line of failures(tap)) console.log(line);
  console.log(summarize(tap, Number(status ?? 0)));
}
