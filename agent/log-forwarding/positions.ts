/** What has been forwarded of each container's log, kept over the forwarder's own end. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { number, object, parse, record, string } from "valibot";
import { messageOf } from "../../sandbox/errors.js";
import type { LogPosition } from "./log-tail.js";

const schema = object({
  version: number(),
  logs: record(string(), object({ inode: number(), offset: number() })),
});

export class Positions {
  readonly #logs = new Map<string, LogPosition>();
  #changed = false;

  /** @throws Error: the file is there, and is none of ours */
  constructor(private readonly path: string) {
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    try {
      for (const [id, position] of Object.entries(parse(schema, JSON.parse(text)).logs)) {
        this.#logs.set(id, position);
      }
    } catch (error) {
      throw new Error(`${path} is no record of forwarded logs: ${messageOf(error)}`, { cause: error });
    }
  }

  get(containerId: string): LogPosition | null {
    return this.#logs.get(containerId) ?? null;
  }

  set(containerId: string, position: LogPosition | null): void {
    if (position === null) return;
    this.#logs.set(containerId, position);
    this.#changed = true;
  }

  /** Forgets containers that are not there any more. */
  keepOnly(containerIds: ReadonlySet<string>): void {
    for (const id of this.#logs.keys()) {
      if (containerIds.has(id)) continue;
      this.#logs.delete(id);
      this.#changed = true;
    }
  }

  save(): void {
    if (!this.#changed) return;
    this.#changed = false;
    const logs = Object.fromEntries(this.#logs);
    mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
    writeFileSync(`${this.path}.new`, JSON.stringify({ version: 1, logs }), { mode: 0o600 });
    renameSync(`${this.path}.new`, this.path);
  }
}
