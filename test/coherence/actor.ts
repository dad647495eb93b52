/**
 * A helper process: runs the tasks it is told (`tasks.ts`), one at a time.
 */
import { TASKS } from './tasks.js';

interface Order {
  id: number;
  task: string;
  args: unknown[];
}

process.on('message', (order: Order) => {
  try {
    const tasks = TASKS as unknown as Record<string, (...args: unknown[]) => unknown>;
    process.send?.({ id: order.id, result: tasks[order.task]?.(...order.args) });
  } catch (e) {
    process.send?.({ id: order.id, error: e instanceof Error ? e.message : String(e) });
  }
});
process.on('disconnect', () => { process.exit(0); });
