/** What the plugins of a list say of themselves: whether they know its version, and whether they are ready for pods. */
import { messageOf } from "../../errors.js";
import type { NetworkConfiguration } from "./configuration.js";
import { checkVersions, networkStatus, type Plugins } from "./operations.js";
import { findPlugin } from "./plugin.js";

/** What they said holds for this long. */
const holdsMs = 10_000;

export class Examination {
  #said: { network: NetworkConfiguration; at: number; problem: string } | undefined;
  #running: { network: NetworkConfiguration; end: Promise<void> } | undefined;

  constructor(private readonly plugins: Plugins) {}

  /** What they said last; empty: they are ready. Undefined: of this list they have said nothing yet. */
  problemOf(network: NetworkConfiguration): string | undefined {
    return this.#said?.network === network ? this.#said.problem : undefined;
  }

  /** Asks them, not more often than need be; never rejects. */
  ask(network: NetworkConfiguration): Promise<void> {
    const last = this.#said;
    if (last?.network === network && performance.now() - last.at < holdsMs) return Promise.resolve();
    if (this.#running?.network === network) return this.#running.end;
    const running = { network, end: this.#ask(network) };
    this.#running = running;
    return running.end.finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
  }

  async #ask(network: NetworkConfiguration): Promise<void> {
    let problem = "";
    try {
      for (const { type } of network.plugins) findPlugin(type, this.plugins.directories);
      if (this.problemOf(network) !== "") await checkVersions(network, this.plugins);
      await networkStatus(network, this.plugins);
    } catch (error) {
      problem = messageOf(error);
    }
    this.#said = { network, at: performance.now(), problem };
  }
}
