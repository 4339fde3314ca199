/**
 * The durable records: one file per pod and per container, readable by people. Its first line is the record as it was
 * made, in JSON; each line after it is what has changed since. Appending is a tenth of the price of renaming a new file
 * over the old one, which makes ext4 write at once. There is no fsync on purpose: a SIGKILL of the agent loses nothing that
 * was written, and after a power failure no pod lives that a record could be missing for. A line without its end was never
 * acted upon, and is left out; a record without a whole line goes, and what it may have spoken of is swept as garbage.
 *
 * When the disk is full, nothing new is recorded; but what is there can still be changed, out of a reserve: without that,
 * nothing could be stopped, and the disk would stay full. On a disk that takes nothing at all (read-only, broken) what has
 * become so is known, and written as soon as that is possible: an agent that ends before has its monitors' word for it.
 */
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { ContainerRecord } from "./container.js";
import { DiskReserve } from "./disk-reserve.js";
import type { Observer } from "./observer.js";
import type { PodRecord } from "./pod.js";

const recordVersion = 1;
/** A record with this many changes is written anew. */
const maxChanges = 100;

/** Between two tries to write what could not be written. */
const owedEveryMs = 5_000;

class Records<T extends { id: string; version: number }> {
  readonly #changes = new Map<string, number>();
  /** records as they are, newer than the disk's */
  readonly #owed = new Map<string, T>();

  constructor(
    private readonly directory: string,
    private readonly reserve: DiskReserve,
    private readonly observer: Pick<Observer, "emit"> | undefined,
  ) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** Of an id that has none yet. @throws ENOSPC, also when there is no reserve for what follows */
  put(record: T): void {
    this.#observed(() => {
      this.reserve.fill();
      this.#write(record);
    });
  }

  get size(): number {
    return this.#changes.size;
  }

  #observed(write: () => void): void {
    const begun = performance.now();
    let failed = true;
    try {
      write();
      failed = false;
    } finally {
      this.observer?.emit({ type: "record-written", seconds: (performance.now() - begun) / 1000, failed });
    }
  }

  /** Of an id that has none yet, or instead of all that was written of it. */
  #write(record: T): void {
    const path = this.#path(record.id);
    const isNew = !this.#changes.has(record.id);
    const written = isNew ? path : `${path}.new`;
    writeFileSync(written, `${JSON.stringify(record)}\n`, { mode: 0o600 });
    if (!isNew) renameSync(written, path);
    this.#changes.set(record.id, 0);
  }

  /** `next` is the record with the change. */
  change(next: T, change: Partial<T>): void {
    this.#observed(() => this.reserve.spend(() => this.#append(next, change)));
    this.#owed.delete(next.id);
  }

  /** The same of what has become so, whatever the disk does: it gets it later. */
  learn(next: T, change: Partial<T>): void {
    try {
      this.change(next, change);
    } catch (error) {
      // of one that the disk has never had there is nothing to tell later
      const isOwed = typeof (error as NodeJS.ErrnoException).code === "string" && this.has(next.id);
      if (!isOwed) throw error;
      const isFirst = this.#owed.size === 0;
      this.#owed.set(next.id, next);
      if (!isFirst) return;
      const what = "write a record, which is tried again";
      this.observer?.emit({ type: "trouble", what, subject: next.id, error });
      this.#payLater();
    }
  }

  #payLater(): void {
    setTimeout(() => {
      for (const [id, record] of this.#owed) {
        try {
          this.#observed(() => this.reserve.spend(() => this.#write(record)));
          this.#owed.delete(id);
        } catch {
          // the disk is as it was: the others would not be written, either
          break;
        }
      }
      if (this.#owed.size > 0) this.#payLater();
    }, owedEveryMs).unref();
  }

  #append(next: T, change: Partial<T>): void {
    const changes = (this.#changes.get(next.id) ?? maxChanges) + 1;
    if (changes > maxChanges) {
      this.#write(next);
      return;
    }
    // a line that a full disk cuts short is not continued
    this.#changes.set(next.id, maxChanges);
    appendFileSync(this.#path(next.id), `${JSON.stringify(change)}\n`);
    this.#changes.set(next.id, changes);
  }

  has(id: string): boolean {
    return this.#changes.has(id);
  }

  /** Nothing there is success. */
  delete(id: string): void {
    try {
      unlinkSync(this.#path(id));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    this.#changes.delete(id);
    this.#owed.delete(id);
  }

  /** All whole records. Others are handed to `onBroken`, and left, but for those that were cut off while they were made. */
  load(onBroken: (path: string, why: string) => void): T[] {
    const records: T[] = [];
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      if (!name.endsWith(".json")) {
        rmSync(path, { force: true });
        continue;
      }
      try {
        const text = readFileSync(path, "utf8");
        if (!text.includes("\n")) {
          onBroken(path, "it was cut off while it was made");
          rmSync(path);
          continue;
        }
        const { record, changes, torn } = parse<T>(text);
        if (record.version !== recordVersion) throw new Error(`version ${record.version} is not ${recordVersion}`);
        this.#changes.set(record.id, changes);
        // the next change must not continue the torn line
        if (torn) this.reserve.spend(() => this.#write(record));
        records.push(record);
      } catch (error) {
        onBroken(path, error instanceof Error ? error.message : String(error));
      }
    }
    return records;
  }

  #path(id: string): string {
    return join(this.directory, `${id}.json`);
  }
}

function parse<T>(text: string): { record: T; changes: number; torn: boolean } {
  const lines = text.split("\n");
  const rest = lines.pop();
  const [first = "", ...changes] = lines;
  const record = JSON.parse(first) as T;
  for (const line of changes) Object.assign(record as object, JSON.parse(line));
  return { record, changes: changes.length, torn: rest !== "" };
}

export interface Store {
  readonly pods: Records<PodRecord>;
  readonly containers: Records<ContainerRecord>;
}

/** Opens (and makes) the store below the state directory. `observer` is told of what is written. */
export function openStore(root: string, observer?: Pick<Observer, "emit">): Store {
  const state = join(root, "state");
  const reserve = new DiskReserve(join(state, "reserve"));
  return {
    pods: new Records<PodRecord>(join(state, "pods"), reserve, observer),
    containers: new Records<ContainerRecord>(join(state, "containers"), reserve, observer),
  };
}

/** Changes a pod's or a container's record: on disk first, then in memory. */
export function update<T extends { id: string; version: number }>(
  records: Records<T>,
  item: { record: T },
  change: Partial<T>,
): void {
  const next = { ...item.record, ...change };
  records.change(next, change);
  item.record = next;
}

/** The same of what has become so: it is known in memory also while the disk takes nothing. */
export function learn<T extends { id: string; version: number }>(
  records: Records<T>,
  item: { record: T },
  change: Partial<T>,
): void {
  const next = { ...item.record, ...change };
  records.learn(next, change);
  item.record = next;
}
