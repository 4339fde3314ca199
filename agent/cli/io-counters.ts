/** What containers have read from and written to block devices: the CRI does not tell, their cgroups' files do. */
import { readDeviceIo } from "../../metrics/device-io.js";
import type { CgroupManager } from "../../sandbox/cgroup/manager.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import type { Client } from "./client.js";

export class IoCounters {
  readonly #client: Client;
  readonly #paths = new Map<string, string>();
  #cgroups: Pick<CgroupManager, "hierarchies"> | undefined;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Bytes by container; empty when this host counts none. */
  async read(containerIds: readonly string[]): Promise<Map<string, number>> {
    const bytes = new Map<string, number>();
    this.#cgroups ??= openCgroupManager();
    const { hierarchies } = this.#cgroups;
    if (!hierarchies.some(({ controllers }) => controllers.includes("blkio") || controllers.includes("io")))
      return bytes;
    await Promise.all(containerIds.map((id) => this.#learnPath(id)));
    const known = containerIds.filter((id) => this.#paths.has(id));
    const ios = await readDeviceIo(
      this.#cgroups,
      known.map((id) => this.#paths.get(id) ?? ""),
    );
    for (const id of known) {
      // one that has used no device is not in the answer
      const devices = ios.get(this.#paths.get(id) ?? "") ?? [];
      bytes.set(
        id,
        devices.reduce((sum, { readBytes, writtenBytes }) => sum + readBytes + writtenBytes, 0),
      );
    }
    return bytes;
  }

  async #learnPath(id: string): Promise<void> {
    if (this.#paths.has(id)) return;
    try {
      const { info } = await this.#client.call("ContainerStatus", { container_id: id, verbose: true });
      const { cgroupPath } = JSON.parse(info["info"] ?? "{}") as { cgroupPath?: string };
      if (cgroupPath !== undefined) this.#paths.set(id, cgroupPath);
    } catch {
      // it has gone meanwhile
    }
  }
}
