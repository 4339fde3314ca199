/** `berth image pull` and the call behind it, against a registry that sends no faster than the test lets it. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { berth } from "../../cri-proto/generated/admin.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { type SlowRegistry, startSlowRegistry } from "../support/slow-registry.js";

const { LayerState } = berth.v1;
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

describe("watching a pull", () => {
  let agent: TestAgent;
  let image: BuiltImage;
  let registry: SlowRegistry;
  let reference: string;
  let bottom: string;
  let top: string;

  before(async () => {
    agent = await startAgent();
    const layers = [1, 2].map((n) => [{ path: `file-${n}`, content: randomBytes(300_000) }]);
    image = buildImage({ layers, compression: "none" });
    [bottom, top] = image.layers.map(({ digest }) => digest) as [string, string];
  });
  after(() => agent.stop());

  beforeEach(async () => {
    registry = await startSlowRegistry(image);
    reference = `${registry.host}/slow/image:1`;
  });
  afterEach(async () => {
    await registry.stop();
    await agent.client.call("RemoveImage", { image: { image: image.id } });
  });

  it("tells of each layer what has come, that it is unpacked, and at the end the image's id", async () => {
    const seen: berth.v1.PullProgress[] = [];
    const watched = (async () => {
      for await (const answer of agent.client.stream("PullWithProgress", { image: reference })) {
        seen.push(answer as berth.v1.PullProgress);
      }
    })();
    const states = (): (berth.v1.LayerState | null | undefined)[] =>
      seen.at(-1)?.layers.map(({ state }) => state) ?? [];
    await until(() => registry.asked().length === 2);
    registry.send(bottom, 100_000);
    await until(() => Number(seen.at(-1)?.layers[0]?.bytes ?? 0) === 100_000);
    const layer = seen.at(-1)?.layers[0];
    assert.equal(layer?.digest, bottom);
    assert.equal(Number(layer?.total_bytes), image.layers[0]?.bytes.length);
    assert.deepEqual(states(), [LayerState.LAYER_DOWNLOADING, LayerState.LAYER_DOWNLOADING]);
    registry.sendAll(top);
    // it waits for the one below it
    await until(() => states()[1] === LayerState.LAYER_UNPACKING);
    registry.sendAll();
    await watched;
    assert.equal(seen.at(-1)?.image_ref, image.id);
    assert.deepEqual(states(), [LayerState.LAYER_COMPLETE, LayerState.LAYER_COMPLETE]);
    assert.ok(seen.slice(0, -1).every(({ image_ref }) => image_ref === ""));

    const again: berth.v1.PullProgress[] = [];
    for await (const answer of agent.client.stream("PullWithProgress", { image: reference })) {
      again.push(answer as berth.v1.PullProgress);
    }
    assert.deepEqual(
      again.at(-1)?.layers.map(({ state }) => state),
      [LayerState.LAYER_EXISTS, LayerState.LAYER_EXISTS],
    );
  });

  it("shows a pull that the kubelet has begun, and does not end it by going away", async () => {
    const pulled = agent.client.call("PullImage", { image: { image: reference } });
    await until(() => registry.asked().length === 2);
    registry.send(top, 5_000);
    for await (const answer of agent.client.stream("PullWithProgress", { image: reference })) {
      const { layers } = answer as berth.v1.PullProgress;
      if (Number(layers[1]?.bytes ?? 0) === 5_000) break;
    }
    assert.equal(registry.seen.filter(({ path }) => path.includes("/blobs/")).length, 3);
    registry.sendAll();
    assert.equal((await pulled).image_ref, image.id);
  });

  it("ends the pull when its only watcher goes, and keeps nothing", async () => {
    for await (const answer of agent.client.stream("PullWithProgress", { image: reference })) {
      if ((answer as berth.v1.PullProgress).layers.length === 2 && registry.asked().length === 2) break;
    }
    await until(() => registry.hungUp(bottom) && registry.hungUp(top));
    await until(() => readdirSync(join(agent.paths.root, "layers")).length === 0);
  });

  const berthPull = (...args: string[]): { child: ChildProcess; output: { stdout: string; stderr: string } } => {
    const child = spawn(process.execPath, [program, "image", "pull", "--socket", agent.socket, ...args]);
    const output = { stdout: "", stderr: "" };
    child.stdout.on("data", (text: Buffer) => {
      output.stdout += text.toString();
    });
    child.stderr.on("data", (text: Buffer) => {
      output.stderr += text.toString();
    });
    return { child, output };
  };

  it("writes a line for each step of a layer where there is no terminal, and the id alone to stdout", async () => {
    const { child, output } = berthPull(reference);
    await until(() => registry.asked().length === 2);
    registry.send(bottom, 100_000);
    await until(() => output.stderr.includes("0.0 of 0.3 MB") || output.stderr.includes("0.1 of 0.3 MB"));
    registry.sendAll();
    const [code] = await once(child, "close");
    assert.equal(code, 0, output.stderr);
    assert.equal(output.stdout, `${image.id}\n`);
    for (const digest of [bottom, top]) {
      assert.match(output.stderr, new RegExp(`^${digest.slice(7, 19)}: 0\\.3 MB, complete$`, "m"));
    }
    assert.ok(!output.stderr.includes("\x1b"));

    const quiet = berthPull("--quiet", reference);
    await once(quiet.child, "close");
    assert.deepEqual(quiet.output, { stdout: `${image.id}\n`, stderr: "" });
  });

  it("tells why a pull failed", async () => {
    const { child, output } = berthPull("127.0.0.1:1/no/registry:1");
    const [code] = await once(child, "close");
    assert.equal(code, 1);
    assert.equal(output.stdout, "");
    assert.match(output.stderr, /^berth: 127\.0\.0\.1:1 .*ECONNREFUSED/m);
  });
});

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !holds(); await sleep(5)) {
    if (Date.now() > end) assert.fail("it did not become so within 10 s");
  }
}
