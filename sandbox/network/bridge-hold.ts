/**
 * A bridge and its table are one agent's: two of them would give the same addresses twice, and each would write the other's
 * host ports away. Whoever has the lock has the bridge; and as long as an agent's pods are on it, it is that agent's also while
 * none of its processes runs.
 */
import { fstatSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Addon } from "../../native/binding.js";
import { FailedPreconditionError, messageOf } from "../errors.js";
import { monitorProcesses } from "../monitor-processes.js";
import type { Observer } from "../observer.js";
import { lockPatiently } from "../patient-lock.js";
import { vethOf } from "./interface-names.js";
import { readKept } from "./kept-file.js";

/** The same for all agents of the machine, whatever directories of their own they have. */
const directory = "/run/berth-bridges";

export interface BridgeHoldOptions {
  addon: Pick<Addon, "lockFile" | "closeDescriptor">;
  bridge: string;
  /** the agent's own directory below which its pods' monitors are; those of others are told by theirs */
  run: string;
  /** the host's ends of all pods that are known */
  interfaces: () => string[];
  observer: Observer;
}

export class BridgeHold {
  readonly #options: BridgeHoldOptions;
  readonly #path: string;
  #lock: number | undefined;
  #taking: Promise<void> | undefined;
  #isHeld = false;
  #isClosed = false;

  constructor(options: BridgeHoldOptions) {
    this.#options = options;
    // bridges of the same name are different ones in different network namespaces
    this.#path = join(directory, `${options.bridge}.${statSync("/proc/self/ns/net").ino}`);
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** FailedPreconditionError: the bridge is another agent's, which it names. */
  async take(): Promise<void> {
    if (this.#isHeld) return;
    this.#taking ??= this.#take().finally(() => {
      this.#taking = undefined;
    });
    await this.#taking;
  }

  /** For good. */
  close(): void {
    this.#isClosed = true;
    this.#isHeld = false;
    this.#release();
  }

  #release(): void {
    if (this.#lock === undefined) return;
    rmSync(this.#path, { force: true });
    this.#options.addon.closeDescriptor(this.#lock);
    this.#lock = undefined;
  }

  async #take(): Promise<void> {
    const { bridge, run, observer } = this.#options;
    try {
      this.#lock ??= await this.#takeLock();
    } catch (error) {
      if (error instanceof FailedPreconditionError) throw error;
      const consequence = `another agent that is given the bridge ${bridge} is noticed only by its pods`;
      observer.limitation(directory, `${directory} cannot be used (${messageOf(error)}): ${consequence}`);
    }
    if (this.#isClosed) {
      this.#release();
      throw new FailedPreconditionError("the network is closed");
    }
    // of one that does not run now, or is of a version that knew no lock
    const other = this.#podOfAnother();
    if (other !== undefined) {
      this.#release();
      throw takenBy(`pod ${other.podId}, in ${other.directory}, is on it`);
    }
    if (this.#lock !== undefined) writeFileSync(this.#path, `process ${process.pid}, which has its pods in ${run}`);
    this.#isHeld = true;
  }

  async #takeLock(): Promise<number> {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (;;) {
      const lock = await lockPatiently(this.#options.addon, this.#path);
      if (lock === undefined) throw takenBy(readKept(this.#path) || "it comes or goes just now");
      // the holder before may have removed the file between its opening and its lock here: that would exclude nobody
      if (statSync(this.#path, { throwIfNoEntry: false })?.ino === fstatSync(lock).ino) return lock;
      this.#options.addon.closeDescriptor(lock);
    }
  }

  #podOfAnother() {
    const { bridge, run, interfaces } = this.#options;
    const known = new Set(interfaces());
    const unknown = portsOf(bridge).filter((name) => !known.has(name));
    if (unknown.length === 0) return undefined;
    return monitorProcesses().find(
      ({ podId, directory }) => unknown.includes(vethOf(podId)) && !directory.startsWith(`${run}/`),
    );
  }
}

/** Empty: there is no such bridge. */
export function portsOf(bridge: string): string[] {
  try {
    return readdirSync(`/sys/class/net/${bridge}/brif`);
  } catch {
    return [];
  }
}

function takenBy(whom: string): FailedPreconditionError {
  return new FailedPreconditionError(
    `another agent uses it (${whom}); give this one a bridge and subnets of its own (--bridge, --subnet)`,
  );
}
