/** How much a container may write to its root, when there is a limit; and what is said where there can be none. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { StorageDriverName } from "../../sandbox/rootfs/drivers/driver.js";
import { writableLimitAnnotation } from "../../sandbox/writable-limit.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { lacksProjectQuotas, lacksStorage, makeFileSystem, type TestFileSystem } from "../support/file-systems.js";
import {
  createContainer,
  exec,
  fails,
  importBusybox,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";

const mebibyte = 1024 ** 2;
const cases: { driver: StorageDriverName; on: "ext4" | "xfs" | "btrfs" }[] = [
  { driver: "overlay", on: "ext4" },
  { driver: "overlay", on: "xfs" },
  { driver: "copy", on: "xfs" },
  { driver: "btrfs", on: "btrfs" },
  { driver: "devmapper", on: "ext4" },
];
/** The quota is that of the file system of the state directory. */
const ofHost: readonly StorageDriverName[] = ["overlay", "copy"];
const asking = (limit: string) => ({ annotations: { [writableLimitAnnotation]: limit } });

for (const { driver, on } of cases) {
  const skip = (ofHost.includes(driver) && on !== "btrfs" ? lacksProjectQuotas(on) : lacksStorage(driver, on)) ?? false;
  describe(`a limit of the writable layer with storage driver ${driver} on ${on}`, { skip }, () => {
    let fileSystem: TestFileSystem;
    let agent: TestAgent;

    before(async () => {
      fileSystem = makeFileSystem(on, 400, { projectQuotas: on !== "btrfs" && ofHost.includes(driver) });
      const flags = { root: join(fileSystem.path, "root"), "storage-driver": driver, "writable-layer-limit": "40Mi" };
      agent = await startAgent({ flags });
      await importBusybox(agent);
    });
    after(async () => {
      await agent.stop();
      await fileSystem.close();
    });

    /** Mebibytes that a container gets into a file before it fails. */
    const fill = async (container: string): Promise<number> => {
      const script = "dd if=/dev/zero of=/big bs=1M count=80 2>&1; sync; stat -c %s /big";
      const { stdout } = await exec(agent, container, script, 60);
      assert.match(stdout, /Disk quota exceeded|No space left on device/);
      return Number(stdout.trim().split("\n").at(-1)) / mebibyte;
    };
    const measured = async (container: string, least: number): Promise<number> => {
      for (let tries = 0; ; tries++) {
        const { stats } = await agent.client.call("ContainerStats", { container_id: container });
        const used = Number(stats?.writable_layer?.used_bytes?.value ?? 0) / mebibyte;
        if (used >= least || tries === 300) return used;
        await sleep(50);
      }
    };

    it("holds for each container by itself, as the pod asks for less than the node gives", async () => {
      const [small, usual]: RunningPod[] = [await runPod(agent, asking("10Mi")), await runPod(agent)];
      assert.ok(small && usual);
      const containers = [await runContainer(agent, small), await runContainer(agent, small)];
      for (const container of containers) {
        const filled = await fill(container);
        assert.ok(filled >= 8 && filled <= 10, String(filled));
      }
      const used = await measured(containers[0] ?? "", 8);
      assert.ok(used >= 8 && used < 11, String(used));
      const filled = await fill(await runContainer(agent, usual));
      assert.ok(filled >= 36 && filled <= 40, String(filled));
      // what is removed can be written again
      assert.equal((await exec(agent, containers[0] ?? "", "rm /big; sync; echo x > /again", 60)).exitCode, 0);
      await removePod(agent, small);
      await removePod(agent, usual);
      assert.deepEqual((await agent.client.call("CheckImages", {})).problems, []);
    });

    it("leaves no qgroup behind", { skip: driver !== "btrfs" && "there are none" }, async () => {
      const listed = (...args: string[]): string[] =>
        execFileSync("btrfs", [...args, fileSystem.path], { encoding: "utf8" }).match(/^(?:ID |0\/)[0-9]+/gm) ?? [];
      for (let tries = 0; ; tries++) {
        const subvolumes = listed("subvolume", "list").map((text) => text.slice(3));
        // 5 is the file system's own top
        const groups = listed("qgroup", "show").map((text) => text.slice(2));
        if (groups.every((id) => id === "5" || subvolumes.includes(id))) break;
        assert.ok(tries < 600, `qgroups ${groups.join(" ")}, subvolumes ${subvolumes.join(" ")}`);
        execFileSync("sync", ["--file-system", fileSystem.path]);
        await sleep(50);
      }
    });

    it("is refused when it is none", async () => {
      const pod = await runPod(agent, asking("much"));
      await fails(createContainer(agent, pod), "INVALID_ARGUMENT", /annotation berth.dev.*"much" is no size/);
      await removePod(agent, pod);
    });
  });
}

describe("a limit where the file system has no quotas", () => {
  it("is refused with a sentence, and nothing is left", async () => {
    const fileSystem = makeFileSystem("tmpfs", 64);
    const agent = await startAgent({ flags: { root: join(fileSystem.path, "root") } });
    try {
      await importBusybox(agent);
      const pod = await runPod(agent, asking("10Mi"));
      const sentence = /a limit of the writable layer: the file system of .* has no project quotas/;
      await fails(createContainer(agent, pod), "FAILED_PRECONDITION", sentence);
      await removePod(agent, pod);
      assert.deepEqual((await agent.client.call("CheckImages", {})).problems, []);
    } finally {
      await agent.stop();
      await fileSystem.close();
    }
  });
});
