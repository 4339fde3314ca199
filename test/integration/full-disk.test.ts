/**
 * A full disk: what cannot be had is RESOURCE_EXHAUSTED and leaves nothing, what is there goes on, and everything can be
 * stopped and removed, which is how the disk gets empty again.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { Removals } from "../../sandbox/network/cni/removals.js";
import type { NetworkLease } from "../../sandbox/network/provider.js";
import type { PodRecord } from "../../sandbox/pod.js";
import type { StorageDriverName } from "../../sandbox/rootfs/drivers/driver.js";
import { openStore, update } from "../../sandbox/store.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type FileSystemKind, lacksFileSystem, makeFileSystem, type TestFileSystem } from "../support/file-systems.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import {
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  out,
  podStatus,
  type RunningPod,
  readLog,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const cases: { driver: StorageDriverName; on: FileSystemKind; megabytes: number }[] = [
  { driver: "overlay", on: "ext4", megabytes: 64 },
  { driver: "copy", on: "xfs", megabytes: 320 },
  { driver: "btrfs", on: "btrfs", megabytes: 256 },
];
const freeMegabytes = 50;

const small = buildImage({ layers: [[{ path: "small", content: "x" }]] });
const block = Buffer.alloc(1024 ** 2, "too much ");
/** The first layer fits, the second does not. */
const large = (megabytes: number): BuiltImage =>
  buildImage({
    layers: [
      [{ path: "fits", content: "x" }],
      Array.from({ length: megabytes }, (_, index) => ({ path: `block-${index}`, content: block })),
    ],
  });
const manyFiles = buildImage({
  layers: [Array.from({ length: 40_000 }, (_, index) => ({ path: `files/${index}`, content: "" }))],
});

for (const { driver, on, megabytes } of cases) {
  describe(`a full disk with storage driver ${driver} on ${on}`, { skip: lacksFileSystem(on) ?? false }, () => {
    let fileSystem: TestFileSystem;
    let agent: TestAgent;
    let root: string;
    let pod: RunningPod;
    let running: string;

    before(async () => {
      fileSystem = makeFileSystem(on, megabytes);
      root = join(fileSystem.path, "root");
      const { bavail, bsize } = await statfs(fileSystem.path);
      const taken = bavail * bsize - freeMegabytes * 1024 ** 2;
      execFileSync("fallocate", ["-l", String(taken), join(fileSystem.path, "taken")]);
      agent = await startAgent({ flags: { root, "storage-driver": driver } });
      await importBusybox(agent);
      pod = await runPod(agent);
      running = await runContainer(agent, pod, sh("i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done"));
    });
    after(async () => {
      await agent.stop();
      await fileSystem.close();
    });

    const pull = async (image: BuiltImage): Promise<string> => {
      const registry = await startLyingRegistry(image);
      try {
        return (await agent.client.call("PullImage", { image: { image: `${registry.host}/x:1` } })).image_ref;
      } finally {
        await registry.stop();
      }
    };
    /** What was removed may take a moment until its room is free. */
    const pullAtLast = async (image: BuiltImage): Promise<string> => {
      for (const until = Date.now() + 20_000; ; await sleep(100)) {
        try {
          return await pull(image);
        } catch (error) {
          if ((error as { code?: number }).code !== status.RESOURCE_EXHAUSTED || Date.now() > until) throw error;
        }
      }
    };
    /** The container's loop goes on, and it answers. */
    const isWell = async (): Promise<void> => {
      const { log_path } = await containerStatus(agent, running);
      const lines = async (): Promise<number> => (await readLog(log_path ?? "")).length;
      const before = await lines();
      for (let tries = 0; (await lines()) <= before; tries++)
        assert.ok(tries < 200, "the container has stopped writing");
      assert.equal(await out(agent, running, ["echo", "well"]), "well");
    };
    /** Nothing is on the disk that is nobody's, once what was removed is deleted. */
    const isWhole = async (): Promise<void> => {
      for (let tries = 0; ; tries++) {
        const names = [...(await readdir(join(root, "layers"))), ...(await readdir(join(root, "containers")))];
        if (!names.some((name) => name.startsWith("."))) break;
        assert.ok(tries < 200, `something is left: ${names.join(" ")}`);
        await sleep(50);
      }
      assert.deepEqual((await agent.client.call("CheckImages", {})).problems, []);
    };
    const fill = (): Promise<unknown> =>
      exec(agent, running, "for size in 1M 4k 1; do dd if=/dev/zero bs=$size 2>/dev/null >/fill-$size; done; sync");

    it("fails a pull that does not fit, keeps what is whole and lets containers be", async () => {
      await fails(
        pull(large(freeMegabytes + 20)),
        "RESOURCE_EXHAUSTED",
        /could not be unpacked: write "block-\d+": errno 28/,
      );
      await isWell();
      await isWhole();
      const { images } = await agent.client.call("ListImages", {});
      assert.equal(images.length, 1);
      await agent.client.call("RemoveImage", { image: { image: await pullAtLast(small) } });
    });

    it("fails one of too many files", { skip: on !== "ext4" && "it counts no inodes" }, async () => {
      await fails(pull(manyFiles), "RESOURCE_EXHAUSTED", /could not be unpacked: create "files\/\d+": errno 28/);
      await isWell();
      await isWhole();
    });

    it("fails what begins when nothing is free, and leaves nothing of it", async () => {
      await fill();
      await fails(pull(large(30)), "RESOURCE_EXHAUSTED", /space/);
      const created = await Promise.allSettled(Array.from({ length: 20 }, () => createContainer(agent, pod)));
      for (const result of created) {
        if (result.status === "fulfilled") await agent.client.call("RemoveContainer", { container_id: result.value });
        else assert.equal(result.reason.code, status.RESOURCE_EXHAUSTED, result.reason.details);
      }
      assert.ok(created.some((result) => result.status === "rejected"));
      await isWell();
      await isWhole();
    });

    it("lets everything be stopped and removed, so that there is room again", async () => {
      await fill();
      await agent.client.call("StopContainer", { container_id: running, timeout: long(0) });
      assert.equal((await containerStatus(agent, running)).exit_code, 137);
      await removePod(agent, pod);
      await isWhole();
      assert.deepEqual(await readdir(join(root, "state", "containers")), []);
      await agent.restart();
      pod = await runPod(agent);
      running = await runContainer(agent, pod, sh("while true; do echo x; sleep 0.05; done"));
      assert.ok((await podStatus(agent, pod.id)).created_at);
      await pullAtLast(large(20));
      await isWell();
      await isWhole();
    });
  });
}

describe("records on a full disk", () => {
  it("can be changed and removed, but there are no new ones until there is room", async () => {
    const fileSystem = makeFileSystem("tmpfs", 2);
    try {
      const pods = openStore(fileSystem.path).pods;
      const records = Array.from({ length: 20 }, (_, index) => ({
        record: { version: 1, id: `pod-${index}`, phase: "ready" } as PodRecord,
      }));
      for (const { record } of records) pods.put(record);
      const taken = join(fileSystem.path, "taken");
      assert.throws(() => writeFileSync(taken, Buffer.alloc(4 * 1024 ** 2)), { code: "ENOSPC" });
      // longer than what is left of a page
      for (const pod of records.slice(0, 10)) update(pods, pod, { netnsPath: "x".repeat(5_000), phase: "stopped" });
      assert.throws(() => pods.put({ version: 1, id: "new" } as PodRecord), { code: "ENOSPC" });
      const known = (): string[] =>
        openStore(fileSystem.path)
          .pods.load((path) => assert.ok(path.endsWith("/new.json"), path))
          .map(({ id, phase }) => `${id} ${phase}`)
          .sort();
      assert.deepEqual(known(), records.map(({ record }) => `${record.id} ${record.phase}`).sort());
      for (const { record } of records) pods.delete(record.id);
      rmSync(taken);
      pods.put({ version: 1, id: "new", phase: "ready" } as PodRecord);
      assert.deepEqual(readdirSync(join(fileSystem.path, "state")).sort(), ["containers", "pods", "reserve"]);
      assert.deepEqual(known(), ["new ready"]);
    } finally {
      await fileSystem.close();
    }
  });
});

describe("CNI's removals on a full disk", () => {
  it("are done all the same; what fails is kept when there is room", async () => {
    const fileSystem = makeFileSystem("tmpfs", 2);
    try {
      const directory = join(fileSystem.path, "removals");
      const taken = join(fileSystem.path, "taken");
      const tried: string[] = [];
      let works = true;
      const removals = new Removals({
        check: () => undefined,
        directory,
        remove: async ({ podId }) => {
          tried.push(podId);
          if (!works) throw new Error("no");
        },
        onFailure: () => undefined,
      });
      const removal = (podId: string) => ({ podId, netnsPath: "/run/netns/x", lease: {} as NetworkLease });
      assert.throws(() => writeFileSync(taken, Buffer.alloc(4 * 1024 ** 2)), { code: "ENOSPC" });
      await removals.add(removal("done"), 10_000);
      assert.deepEqual([tried, removals.list()], [["done"], []]);
      works = false;
      await assert.rejects(removals.add(removal("fails"), 10_000), { code: "ENOSPC" });
      rmSync(taken);
      await removals.add(removal("fails"), 10_000);
      assert.deepEqual(readdirSync(directory), ["fails.json"]);
      works = true;
      await removals.retry();
      assert.deepEqual(readdirSync(directory), []);
    } finally {
      await fileSystem.close();
    }
  });
});
