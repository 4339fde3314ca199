/**
 * Attachments that are to be taken away. A plugin may fail or hang for as long as its network is broken, and must not keep
 * the pod: what is to be done stands in a file of its own, is tried again with growing pauses, also by the next agent, and
 * the pod's network namespace is kept pinned until it is done.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDiskFull } from "../../errno.js";
import { messageOf } from "../../errors.js";
import type { NetworkLease } from "../provider.js";
import { withPatience } from "./patience.js";

export interface Removal {
  podId: string;
  netnsPath: string;
  lease: NetworkLease;
  /** milliseconds since 1970 */
  since: number;
  attempts: number;
  /** of the last attempt; empty: there was none */
  error: string;
}

const firstPauseMs = 1_000;
const longestPauseMs = 5 * 60_000;

export class Removals {
  readonly #directory: string;
  readonly #remove: (removal: Removal) => Promise<void>;
  readonly #onFailure: (removal: Removal) => void;
  readonly #check: (removal: Removal) => void;
  readonly #pending = new Map<string, Removal>();
  /** those of them that the disk had no room for, with its error */
  readonly #unwritten = new Map<string, unknown>();
  readonly #attempts = new Map<string, Promise<void>>();
  readonly #timers = new Map<string, NodeJS.Timeout>();

  constructor(options: {
    directory: string;
    /** takes everything away; may be called again after a failure */
    remove: (removal: Removal) => Promise<void>;
    /** after each failed attempt */
    onFailure: (removal: Removal) => void;
    /** throws when there is not in it what `remove` needs */
    check: (removal: Removal) => void;
  }) {
    this.#directory = options.directory;
    this.#remove = options.remove;
    this.#onFailure = options.onFailure;
    this.#check = options.check;
  }

  /** What earlier agents have left; retry() takes it up. */
  read(onBroken: (path: string, why: string) => void): void {
    for (const name of listDirectory(this.#directory)) {
      const path = join(this.#directory, name);
      try {
        if (!name.endsWith(".json")) {
          rmSync(path, { force: true });
          continue;
        }
        const removal = JSON.parse(readFileSync(path, "utf8")) as Removal;
        if (`${removal.podId}.json` !== name) throw new Error("it names another pod than its file does");
        this.#check(removal);
        this.#pending.set(removal.podId, removal);
      } catch (error) {
        onBroken(path, messageOf(error));
      }
    }
  }

  list(): Removal[] {
    return [...this.#pending.values()];
  }

  has(podId: string): boolean {
    return this.#pending.has(podId);
  }

  /**
   * On disk first: from here on it is nobody else's business. Waits for the first attempt, `patienceMs` at most; what is not
   * done by then goes on. Twice for the same pod is once. @throws ENOSPC: it is not done, and the disk has no room for it;
   * whoever asks is to ask again
   */
  async add(removal: Pick<Removal, "podId" | "netnsPath" | "lease">, patienceMs: number): Promise<void> {
    const { podId } = removal;
    const known = this.#pending.get(podId);
    const added = known ?? { ...removal, since: Date.now(), attempts: 0, error: "" };
    if (known === undefined || this.#unwritten.has(podId)) this.#tryToWrite(added);
    this.#pending.set(podId, added);
    await withPatience(this.#attempt(added), patienceMs);
    const full = this.#unwritten.get(podId);
    if (full !== undefined && this.#pending.has(podId)) throw full;
  }

  /** Tries all again now; back when each was tried. What is being tried may have begun before what kept it was mended. */
  async retry(): Promise<void> {
    await Promise.all(
      this.list().map(async (removal) => {
        await this.#attempts.get(removal.podId);
        if (this.#pending.get(removal.podId) === removal) await this.#attempt(removal);
      }),
    );
  }

  /** It is not tried again; answers what it was. Undefined: there is none. */
  giveUp(podId: string): Removal | undefined {
    const removal = this.#pending.get(podId);
    clearTimeout(this.#timers.get(podId));
    this.#timers.delete(podId);
    rmSync(this.#path(podId), { force: true });
    this.#pending.delete(podId);
    this.#unwritten.delete(podId);
    return removal;
  }

  /** One at a time per pod; never rejects. */
  #attempt(removal: Removal): Promise<void> {
    const { podId } = removal;
    const running = this.#attempts.get(podId);
    if (running !== undefined) return running;
    clearTimeout(this.#timers.get(podId));
    this.#timers.delete(podId);
    const attempt = this.#tryOnce(removal);
    this.#attempts.set(podId, attempt);
    return attempt;
  }

  async #tryOnce(removal: Removal): Promise<void> {
    const { podId } = removal;
    try {
      await this.#remove(removal);
      rmSync(this.#path(podId), { force: true });
      this.#pending.delete(podId);
      this.#unwritten.delete(podId);
    } catch (error) {
      // it was given up meanwhile
      if (this.#pending.get(podId) !== removal) return;
      removal.attempts += 1;
      removal.error = messageOf(error);
      this.#onFailure(removal);
      const pauseMs = Math.min(firstPauseMs * 2 ** (removal.attempts - 1), longestPauseMs);
      // an agent that ends does not wait for it
      this.#timers.set(podId, setTimeout(() => void this.#attempt(removal), pauseMs).unref());
    } finally {
      // in one go with the above: a removal that is added as this one ends must not take it for its own attempt
      this.#attempts.delete(podId);
    }
  }

  /** A full disk keeps nothing from being tried: pods must end all the same. */
  #tryToWrite(removal: Removal): void {
    this.#unwritten.delete(removal.podId);
    try {
      this.#write(removal);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      rmSync(`${this.#path(removal.podId)}.new`, { force: true });
      this.#unwritten.set(removal.podId, error);
    }
  }

  #write(removal: Removal): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const path = this.#path(removal.podId);
    writeFileSync(`${path}.new`, JSON.stringify(removal), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  #path(podId: string): string {
    return join(this.#directory, `${podId}.json`);
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    // there is none before the first removal
    return [];
  }
}
