/** What the agent and a program that has the runtime in its own process (library/) begin with: locks, parts, recovery. */
import { native } from "../native/binding.js";
import { recover } from "../sandbox/recover.js";
import type { Config } from "./config.js";
import { lockDirectories } from "./lock.js";
import type { Log } from "./log.js";
import { logHappenings } from "./log-happenings.js";
import { createRuntime, type Runtime } from "./runtime.js";

export interface BootedRuntime {
  runtime: Runtime;
  /** lets another process work in the directories */
  unlock(): void;
}

/** Everything is known of pods and images when it answers. FailedPreconditionError: another process works there. */
export async function bootRuntime(config: Config, log: Log): Promise<BootedRuntime> {
  const locks = await lockDirectories(native, [config.root, config.run]);
  const unlock = () => {
    for (const lock of locks) native.closeDescriptor(lock);
  };
  try {
    const runtime = await createRuntime(config);
    logHappenings(runtime.node.observer, log);
    for (const sentence of runtime.clampedSettings) log.warn(sentence);
    await recover(runtime.node);
    // layers that a crash left between their commit and their image's record
    await runtime.images.store.collect();
    return { runtime, unlock };
  } catch (error) {
    unlock();
    throw error;
  }
}
