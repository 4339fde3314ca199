/** The device mapper's pool on a device that is given, and when it is full. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { lacksStorage } from "../support/file-systems.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import {
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  out,
  readLog,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const mebibyte = 1024 ** 2;
const small = buildImage({ layers: [[{ path: "small", content: "x" }]] });
const block = Buffer.alloc(mebibyte, "much ");
const large = (mebibytes: number): BuiltImage =>
  buildImage({
    layers: [
      [{ path: "fits", content: "x" }],
      Array.from({ length: mebibytes }, (_, index) => ({ path: `block-${index}`, content: block })),
    ],
  });
const pulled = async (agent: TestAgent, image: BuiltImage): Promise<string> => {
  const registry = await startLyingRegistry(image);
  try {
    return (await agent.client.call("PullImage", { image: { image: `${registry.host}/x:1` } })).image_ref;
  } finally {
    await registry.stop();
  }
};
/** What was removed may take a moment until its room is free. */
const atLast = async <T>(call: () => Promise<T>): Promise<T> => {
  for (const until = Date.now() + 30_000; ; await sleep(100)) {
    try {
      return await call();
    } catch (error) {
      if ((error as { code?: number }).code !== status.RESOURCE_EXHAUSTED || Date.now() > until) throw error;
    }
  }
};
/** A container that writes to its log and to its root alike, and says what it could not write. */
const busy = sh("while :; do echo turn; echo x 2>&1 >/tmp/x; sleep 0.1; done");
/** The container's loop goes on, and it answers. */
const isWell = async (agent: TestAgent, id: string): Promise<void> => {
  const { log_path } = await containerStatus(agent, id);
  const turns = async () => (await readLog(log_path ?? "")).filter(({ text }) => text === "turn").length;
  const before = await turns();
  for (let tries = 0; (await turns()) <= before; tries++) assert.ok(tries < 500, "the container has stopped writing");
  assert.equal(await out(agent, id, ["echo", "well"]), "well");
};
const isWhole = async (agent: TestAgent): Promise<void> => {
  assert.deepEqual((await agent.client.call("CheckImages", {})).problems, []);
};
const fill = (agent: TestAgent, id: string, mebibytes: number) =>
  exec(agent, id, `dd if=/dev/zero of=/big bs=1M count=${mebibytes} conv=fsync 2>&1; echo ended`, 120);

describe("the device mapper's pool", { skip: lacksStorage("devmapper", "ext4") ?? false }, () => {
  let scratch: string;
  let device: string;
  let file: string;

  before(() => {
    scratch = mkdtempSync(join(tmpdir(), "berth-pool-"));
    file = join(scratch, "device");
    writeFileSync(file, "");
    truncateSync(file, 160 * mebibyte);
    device = execFileSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).trim();
  });
  after(async () => {
    // the pool keeps it for a moment
    for (let tries = 0; ; tries++) {
      execFileSync("losetup", ["--detach", device]);
      if (!existsSync(`/sys/block/${basename(device)}/loop/backing_file`)) break;
      assert.ok(tries < 200, `${device} stays in use`);
      await sleep(50);
    }
    rmSync(scratch, { recursive: true });
  });

  const flags = { "storage-driver": "devmapper", "devmapper-root-size": "240Mi" };

  it("is not begun on a device that has something on it", async () => {
    writeFileSync(device, "precious");
    await assert.rejects(
      startAgent({ flags: { ...flags, "devmapper-device": device } }),
      /devmapper-device \/dev\/loop\d+: there is something on it/,
    );
    assert.equal(readFileSync(device).subarray(0, 8).toString(), "precious");
    writeFileSync(device, Buffer.alloc(mebibyte));
  });

  it("has its blocks on the device that is given, also for the next agent, until it is full", async () => {
    const agent = await startAgent({ flags: { ...flags, "devmapper-device": device } });
    try {
      await importBusybox(agent);
      assert.ok(!existsSync(join(agent.paths.root, "devmapper", "data")));
      assert.ok(statSync(file).blocks > 0, "nothing was written to the device");
      assert.deepEqual(readdirSync(`/sys/block/${basename(device)}/holders`).length, 1);
      const pod = await runPod(agent);
      const well = await runContainer(agent, pod, busy);
      await agent.kill9();
      await agent.restart();
      await isWell(agent, well);

      // more than there is
      await fails(pulled(agent, large(180)), "RESOURCE_EXHAUSTED", /./);
      await isWell(agent, well);
      await isWhole(agent);
      assert.equal((await agent.client.call("ListImages", {})).images.length, 1);
      await agent.client.call("RemoveImage", { image: { image: await atLast(() => pulled(agent, small)) } });

      // a container takes all of it
      const filler = await runPod(agent);
      const full = await runContainer(agent, filler);
      const { stdout } = await fill(agent, full, 200);
      assert.match(stdout, /No space left on device|Input\/output error|Read-only file system/);
      await fails(pulled(agent, small), "RESOURCE_EXHAUSTED", /thin pool of .* (is full|cannot be written)/);
      await fails(createContainer(agent, pod), "RESOURCE_EXHAUSTED", /thin pool of .* (is full|cannot be written)/);
      await isWell(agent, well);
      await isWhole(agent);

      // what it has taken is there for others when it is gone
      await removePod(agent, filler);
      await atLast(() => pulled(agent, large(10)));
      await isWhole(agent);
      const later = await runContainer(agent, pod, busy);
      await isWell(agent, later);
      assert.equal(
        await out(agent, later, "dd if=/dev/zero of=/new bs=1M count=10 2>/dev/null; sync; stat -c %s /new"),
        `${10 * mebibyte}`,
      );
      await removePod(agent, pod);
      await agent.restart();
      await isWhole(agent);
    } finally {
      await agent.stop();
    }
  });
});
