/** `berth image check` and `berth image du`: what is wrong on the disk is found, told and repaired. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { berth } from "../../cri-proto/generated/admin.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { createContainer, importBusybox, removePod, runPod, runToEnd, sh } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

let agent: TestAgent;
let layers: string;
let image: string;

before(async () => {
  agent = await startAgent();
  layers = join(agent.paths.root, "layers");
});
after(() => agent.stop());

function cli(...args: string[]): { code: number | null; out: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [program, "image", ...args, "--socket", agent.socket],
    { encoding: "utf8" },
  );
  assert.equal(stderr, "");
  return { code: status, out: stdout };
}

async function check(repair: boolean): Promise<berth.v1.IImageProblem[]> {
  return (await agent.client.call("CheckImages", { repair })).problems;
}

/** Homes of layers; those that are being deleted have gone. */
async function homes(): Promise<string[]> {
  return (await readdir(layers)).filter((name) => !name.startsWith("."));
}

describe("a check of the store", () => {
  beforeEach(async () => {
    image = await importBusybox(agent);
    assert.deepEqual(await check(false), []);
  });

  it("finds what is nobody's, says so, and removes it only when it is told to", async () => {
    await mkdir(join(layers, "0".repeat(32), "fs"), { recursive: true });
    await mkdir(join(layers, ".staging-left", "fs"), { recursive: true });
    await mkdir(join(agent.paths.root, "containers", "nobody", "upper"), { recursive: true });
    await mkdir(join(agent.paths.root, "containers", ".removed-left"));
    await writeFile(join(agent.paths.root, "images", "left.json.new"), "{");
    const subjects = [
      join(layers, "0".repeat(32)),
      join(layers, ".staging-left"),
      join(agent.paths.root, "containers", "nobody"),
      join(agent.paths.root, "containers", ".removed-left"),
      join(agent.paths.root, "images", "left.json.new"),
    ].sort();
    const told = cli("check");
    assert.equal(told.code, 1);
    for (const subject of subjects) assert.ok(told.out.includes(`${subject}: `), told.out);
    assert.match(told.out, /\n1 images, 2 layers: 5 found\n$/);
    const problems = await check(false);
    assert.deepEqual(problems.map(({ subject }) => subject).sort(), subjects);
    const repaired = cli("check", "--repair");
    assert.equal(repaired.code, 0, repaired.out);
    assert.equal(repaired.out.match(/\(repaired\)/g)?.length, 5);
    assert.deepEqual(cli("check"), { code: 0, out: "1 images, 2 layers: nothing is wrong\n" });
    assert.equal((await homes()).length, 2);
  });

  it("gives up damaged layers with their images, which can be had again", async () => {
    const [first, second] = (await homes()).sort();
    await rm(join(layers, first ?? "", "fs"), { recursive: true, maxRetries: 5 });
    await rm(join(layers, second ?? ""), { recursive: true, maxRetries: 5 });
    const problems = await check(true);
    assert.equal(problems.length, 2);
    for (const { what, repaired } of problems) {
      assert.match(what ?? "", /^the layer is damaged: .*ENOENT|No such file/);
      assert.equal(repaired, true);
    }
    assert.deepEqual((await agent.client.call("ListImages", {})).images, []);
    assert.deepEqual(await check(false), []);
    assert.equal(await importBusybox(agent), image);
    assert.deepEqual(await check(false), []);
  });

  it("leaves a damaged layer that a container was made of, and says why", async () => {
    const pod = await runPod(agent);
    const container = await createContainer(agent, pod);
    const [home] = await homes();
    const record = join(layers, home ?? "", "layer.json");
    await rename(record, `${record}.away`);
    const [problem, ...more] = await check(true);
    assert.deepEqual(more, []);
    assert.equal(problem?.repaired, false);
    assert.equal(problem?.why_not, `container ${container} was made of it; remove that first`);
    await rename(`${record}.away`, record);
    await removePod(agent, pod);
    assert.deepEqual(await check(false), []);
  });

  it("writes an image's record again", async () => {
    const path = join(agent.paths.root, "images", `${image.slice("sha256:".length)}.json`);
    await writeFile(path, "{}");
    assert.deepEqual(
      (await check(true)).map(({ subject, repaired }) => [subject, repaired]),
      [[image, true]],
    );
    await agent.restart();
    assert.equal((await agent.client.call("ListImages", {})).images[0]?.id, image);
    assert.deepEqual(await check(false), []);
  });
});

describe("disk usage of images", () => {
  it("is told by image and by layer, shared and unique", async () => {
    image = await importBusybox(agent);
    const other = await importBusybox(agent, "berth.test/other:1", {
      layers: [[{ path: "more", content: Buffer.alloc(100_000, 1) }]],
    });
    const pod = await runPod(agent);
    await runToEnd(agent, pod, sh("head -c 50000 /dev/zero > /written"));
    // what containers have written is looked at now and then
    let answer = await agent.client.call("ImageDiskUsage", {});
    for (const until = Date.now() + 120_000; Number(answer.written_bytes) < 50_000 && Date.now() < until; ) {
      await sleep(100);
      answer = await agent.client.call("ImageDiskUsage", {});
    }
    const [small, large] = [image, other].map((id) => answer.images.find((usage) => usage.id === id));
    assert.equal(Number(small?.unique_bytes), 0);
    assert.equal(Number(large?.unique_bytes), Number(large?.bytes) - Number(small?.bytes));
    assert.ok(Number(large?.unique_bytes) >= 100_000);
    assert.deepEqual([Number(small?.containers), Number(large?.containers)], [1, 0]);
    assert.deepEqual(answer.layers.map(({ images, containers }) => [images?.length, Number(containers)]).sort(), [
      [1, 0],
      [2, 1],
      [2, 1],
    ]);
    assert.ok(Number(answer.written_bytes) >= 50_000);
    const table = cli("du").out.split("\n");
    assert.match(table[0] ?? "", /^IMAGE +IMAGE ID +SIZE +UNIQUE +SHARED +CONTAINERS$/);
    assert.match(table[1] ?? "", /^berth.test\/other:1 /);
    assert.match(table[4] ?? "", /^3 layers take \d+\.\d MB; containers have written \d+\.\d MB$/);
    assert.equal(cli("du", "--layers").out.split("\n").length, 7);
    assert.equal(JSON.parse(cli("du", "--json").out).layers.length, 3);
    await removePod(agent, pod);
  });
});
