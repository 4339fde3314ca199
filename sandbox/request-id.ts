/**
 * Which call work is done for: an id that stands in every log line about it, also in those of the pod's monitor and of the
 * unpacker.
 */
import { AsyncLocalStorage } from "node:async_hooks";

const current = new AsyncLocalStorage<string>();
let running = 0;

/**
 * Runs it with `currentRequestId()` answering this, also after what it awaits. While any such work runs, every promise in the
 * process costs more (an exec of the agent's a twelfth), so calls that come by the second pass their id along instead.
 */
export async function withRequestId<T>(id: string, run: () => Promise<T>): Promise<T> {
  running += 1;
  try {
    return await current.run(id, run);
  } finally {
    running -= 1;
    if (running === 0) current.disable();
  }
}

/** Undefined: it is for no call, or for one that passes its id along. */
export function currentRequestId(): string | undefined {
  return running === 0 ? undefined : current.getStore();
}
