/**
 * The durable records: one JSON file per pod and per container, readable by people. A write is a new file renamed over
 * the old one, so that a reader (and a later agent) sees either. There is no fsync on purpose: a SIGKILL of the agent
 * loses nothing that was written, and after a power failure no pod lives that a record could be missing for; a record
 * torn by one is dropped, and what it spoke of is swept as garbage.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ContainerRecord } from "./container.js";
import type { PodRecord } from "./pod.js";

const recordVersion = 1;

class Records<T extends { id: string; version: number }> {
  constructor(private readonly directory: string) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  put(record: T): void {
    const path = this.#path(record.id);
    writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** Nothing there is success. */
  delete(id: string): void {
    rmSync(this.#path(id), { force: true });
  }

  /** All whole records; files that are not (a torn write, a newer version) are handed to `onBroken` and left. */
  load(onBroken: (path: string, why: string) => void): T[] {
    const records: T[] = [];
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      if (!name.endsWith(".json")) {
        rmSync(path, { force: true });
        continue;
      }
      try {
        const record = JSON.parse(readFileSync(path, "utf8")) as T;
        if (record.version !== recordVersion) throw new Error(`version ${record.version} is not ${recordVersion}`);
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

export interface Store {
  readonly pods: Records<PodRecord>;
  readonly containers: Records<ContainerRecord>;
}

/** Opens (and makes) the store below the state directory. */
export function openStore(root: string): Store {
  return {
    pods: new Records<PodRecord>(join(root, "state", "pods")),
    containers: new Records<ContainerRecord>(join(root, "state", "containers")),
  };
}

/** Changes a pod's or a container's record: on disk first, then in memory. */
export function update<T extends { id: string; version: number }>(
  records: Records<T>,
  item: { record: T },
  change: Partial<T>,
): void {
  const next = { ...item.record, ...change };
  records.put(next);
  item.record = next;
}
