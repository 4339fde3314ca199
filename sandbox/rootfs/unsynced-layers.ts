/**
 * Layers whose files may not be on the disk yet, only in the kernel's memory. A pull does not wait for the disk: such a layer
 * is marked, and goes when the machine has gone down before the mark was taken away.
 */
import { setTimeout as pause } from "node:timers/promises";
import { native } from "../../native/binding.js";

/** The layers of an image, and images that are pulled together, are synced at once. */
const restMs = 1_000;
const restAfterFailureMs = 60_000;

export class UnsyncedLayers {
  readonly #chainIds = new Set<string>();
  #syncing = false;

  /**
   * @param directory on the file system that the layers are on
   * @param clear takes a layer's mark away; a failure is tried again
   */
  constructor(
    private readonly directory: string,
    private readonly clear: (chainId: string) => Promise<void>,
  ) {}

  add(chainId: string): void {
    this.#chainIds.add(chainId);
    if (!this.#syncing) void this.#syncAll();
  }

  async #syncAll(): Promise<void> {
    this.#syncing = true;
    for (let rest = restMs; this.#chainIds.size > 0; ) {
      // an agent that ends does not wait for it: the next one takes it up
      await pause(rest, undefined, { ref: false });
      rest = restMs;
      const written = [...this.#chainIds];
      try {
        await native.syncFileSystem(this.directory);
        for (const chainId of written) {
          await this.clear(chainId);
          this.#chainIds.delete(chainId);
        }
      } catch {
        // a disk that is full, or fails: the layers stay marked
        rest = restAfterFailureMs;
      }
    }
    this.#syncing = false;
  }
}
