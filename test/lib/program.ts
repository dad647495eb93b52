/**
 * Test modules that can also be run as programs.
 */
import { fileURLToPath } from 'node:url';

/** Runs `main` when the module at `url` is the program; its result, or 2, is the exit status. */
export function ifProgram(url: string, main: () => Promise<number>): void {
  if (process.argv[1] !== fileURLToPath(url)) return;
  main().then((status) => { process.exit(status); }, (e: unknown) => {
    console.error(e);
    process.exit(2);
  });
}
