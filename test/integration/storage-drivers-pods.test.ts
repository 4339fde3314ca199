/** Pods on every storage driver, by an agent whose state directory is on a file system of its own. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { kernelFeatures } from "../../native/features.js";
import type { StorageDriverName } from "../../sandbox/rootfs/drivers/driver.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type FileSystemKind, lacksStorage, makeFileSystem, type TestFileSystem } from "../support/file-systems.js";
import {
  busyboxName,
  importBusybox,
  NamespaceMode,
  out,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";

const cases: { driver: StorageDriverName; on: FileSystemKind }[] = [
  { driver: "overlay", on: "xfs" },
  { driver: "copy", on: "xfs" },
  { driver: "btrfs", on: "btrfs" },
  { driver: "devmapper", on: "ext4" },
];
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

for (const { driver, on } of cases) {
  describe(`pods with storage driver ${driver} on ${on}`, { skip: lacksStorage(driver, on) ?? false }, () => {
    let fileSystem: TestFileSystem;
    let agent: TestAgent;
    let root: string;

    before(async () => {
      fileSystem = makeFileSystem(on, 400);
      // as systemd has all mounts
      execFileSync("mount", ["--make-shared", fileSystem.path]);
      root = join(fileSystem.path, "root");
      agent = await startAgent({ flags: { root, "storage-driver": driver } });
      await importBusybox(agent, busyboxName, { layers: [[{ path: "data/one", content: "1", uid: 5 }]] });
    });
    after(async () => {
      await agent.stop();
      await fileSystem.close();
    });

    const checked = async (): Promise<void> => {
      assert.deepEqual((await agent.client.call("CheckImages", {})).problems, []);
    };

    it("have roots of their own, which outlive the agent and go with the container", async () => {
      const pod = await runPod(agent);
      const [one, two] = [await runContainer(agent, pod), await runContainer(agent, pod)];
      await out(
        agent,
        one,
        "echo mine > /data/one; rm /etc/group; mkdir /made; mknod /made/null c 1 3; echo x > /made/null",
      );
      assert.equal(await out(agent, two, ["cat", "/data/one"]), "1");
      await agent.kill9();
      await agent.restart();
      assert.equal(
        await out(agent, one, "cat /data/one; test ! -e /etc/group && stat -c %t:%T /made/null"),
        "mine\n1:3",
      );
      const env = { ...process.env, BERTH_SOCKET: agent.socket };
      const { stdout, stderr } = spawnSync(process.execPath, [program, "diff", one], { encoding: "utf8", env });
      const changes = ["C /data", "C /data/one", "C /etc", "D /etc/group", "A /made", "A /made/null"];
      assert.deepEqual([stdout.trimEnd().split("\n"), stderr], [changes, ""]);
      await checked();
      await removePod(agent, pod);
      for (let tries = 0; (await readdir(join(root, "containers"))).length > 0; tries++) {
        assert.ok(tries < 200, "the containers' roots were not deleted");
        await sleep(50);
      }
      await checked();
    });

    it("see an image as a volume", async () => {
      const pod = await runPod(agent);
      const mounts = [
        { container_path: "/vol", readonly: true, image: { image: busyboxName }, image_sub_path: "data" },
      ];
      const container = await runContainer(agent, pod, { mounts });
      assert.equal(
        await out(agent, container, "cat /vol/one; echo; ! touch /vol/new 2>&1"),
        "1\ntouch: /vol/new: Read-only file system",
      );
      await removePod(agent, pod);
    });

    const noMaps = supportsUserNamespaces(kernelFeatures()) ? false : "the kernel cannot map ids";
    it("see an image's files with the ids of their user namespace", { skip: noMaps }, async () => {
      const maps = [{ host_id: 400_000, container_id: 0, length: 65_536 }];
      const userns_options = { mode: NamespaceMode.POD, uids: maps, gids: maps };
      const namespace_options = { pid: NamespaceMode.CONTAINER, userns_options };
      const linux = { security_context: { namespace_options } };
      const pod = await runPod(agent, { linux });
      const mounts = [{ container_path: "/vol", readonly: true, image: { image: busyboxName } }];
      const container = await runContainer(agent, pod, { linux, mounts });
      assert.equal(await out(agent, container, "stat -c %u / /etc /data/one /vol/data/one"), "0\n0\n5\n5");
      assert.equal(
        await out(agent, container, "chown 7 /data/one; echo x >> /data/one; touch /new; stat -c %u /data/one /new"),
        "7\n0",
      );
      await removePod(agent, pod);
    });

    it("are measured by what they have written", async () => {
      const pod = await runPod(agent);
      const container = await runContainer(agent, pod);
      await out(agent, container, "dd if=/dev/zero of=/written bs=1M count=4 2>/dev/null; sync");
      let used = 0;
      for (let tries = 0; used === 0; tries++) {
        assert.ok(tries < 200, "the container's writable layer was not measured");
        const { stats } = await agent.client.call("ContainerStats", { container_id: container });
        used = Number(stats?.writable_layer?.used_bytes?.value ?? 0);
        if (used === 0) await sleep(50);
      }
      assert.ok(used >= 4 * 1024 ** 2 && used < 5 * 1024 ** 2, String(used));
      await removePod(agent, pod);
    });
  });
}
