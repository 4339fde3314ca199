/** Objects that are larger than anybody needs: they may fail, and nothing else may. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { methodDefinition, runtimeService } from "../../agent/services.js";
import { parseImageConfig } from "../../sandbox/image-config.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { buildImage, dockerArchive } from "../support/image-builder.js";
import { writeTar } from "../support/tar-writer.js";
import {
  createContainer,
  fails,
  importBusybox,
  out,
  podStatus,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const MiB = 1024 * 1024;

describe("huge objects", () => {
  let agent: TestAgent;
  let pod: RunningPod;
  let container = "";
  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    pod = await runPod(agent);
    container = await runContainer(agent, pod, sh("sleep 1000"));
  });
  after(() => agent.stop());

  afterEach(async () => {
    assert.equal(await out(agent, container, "echo here"), "here");
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
  });

  it("a message of more than 16 MiB is refused", async () => {
    const { path, requestSerialize } = methodDefinition(
      "runtime.v1.RuntimeService",
      "RunPodSandbox",
      runtimeService.RunPodSandbox,
    );
    const client = new grpc.Client(agent.socket, grpc.credentials.createInsecure(), {
      "grpc.max_send_message_length": -1,
    });
    try {
      const config = { annotations: { a: "x".repeat(17 * MiB) } };
      const answer = new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          path,
          requestSerialize,
          (bytes) => bytes,
          { config },
          (error, value) => (error ? reject(error) : resolve(value)),
        );
      });
      await assert.rejects(answer, { code: grpc.status.RESOURCE_EXHAUSTED });
    } finally {
      client.close();
    }
  });

  it("labels and annotations of more than 2 MiB are refused, with the field's name", async () => {
    const text = "x".repeat(3 * MiB);
    await fails(
      runPod(agent, { annotations: { a: text } }),
      "INVALID_ARGUMENT",
      /^config\.annotations: 31457\d\d bytes/,
    );
    await fails(runPod(agent, { labels: { a: text } }), "INVALID_ARGUMENT", /^config\.labels: /);
    const asked = createContainer(agent, pod, { ...sh("true"), annotations: { a: text } });
    await fails(asked, "INVALID_ARGUMENT", /^config\.annotations: /);
  });

  it("an environment, arguments or mounts that no exec could take are refused", async () => {
    const envs = [{ key: "A", value: Buffer.alloc(8 * MiB, "x") }];
    await fails(createContainer(agent, pod, { ...sh("true"), envs }), "INVALID_ARGUMENT", /at most are possible/);
    const args = Array.from({ length: 300_000 }, () => "argument....");
    await fails(createContainer(agent, pod, { command: ["sh"], args }), "INVALID_ARGUMENT", /at most are possible/);
  });

  it("images with long annotations do not keep others out of the list", async () => {
    const own = await startAgent();
    try {
      const annotations = { long: "x".repeat(16_000), short: "kept" };
      const config = parseImageConfig({ rootfs: { type: "layers", diff_ids: [] } });
      for (let n = 0; n < 1_200; n++) {
        const id = `sha256:${String(n).padStart(64, "0")}`;
        const more = n === 0 ? { annotations: { own: "y".repeat(4_000) } } : { annotations };
        const names = { repoTags: [`many.test/image:${n}`], repoDigests: [] };
        const record = {
          version: 1,
          id,
          configDigest: id,
          ...names,
          sizeBytes: 1,
          layers: [],
          config,
          pulledAt: `${n}`,
        };
        await writeFile(join(own.paths.root, "images", `${id.slice(7)}.json`), JSON.stringify({ ...record, ...more }));
      }
      await own.restart();
      const { images } = await own.client.call("ListImages", {});
      assert.equal(images.length, 1_200);
      const of = (n: number) =>
        images.find(({ repo_tags }) => repo_tags?.[0] === `many.test/image:${n}`)?.spec?.annotations;
      assert.deepEqual(of(7), { short: "kept" });
      assert.equal(of(0)?.["own"]?.length, 4_000);
      const { image } = await own.client.call("ImageStatus", { image: { image: "many.test/image:7" } });
      assert.deepEqual(image?.spec?.annotations, annotations);
    } finally {
      await own.stop();
    }
  });

  it("an image's configuration is told whole, with labels of nearly 4 MiB; what would become longer as text is refused", async () => {
    const layers = [writeTar([{ path: "a" }])];
    const path = join(agent.paths.base, "huge.tar");
    const label = "x".repeat(4 * MiB - 2_000);
    await writeFile(path, dockerArchive(buildImage({ layers, config: { Labels: { label } } }), ["huge.test/image:1"]));
    await agent.client.call("ImportImage", { path });
    const question = { image: { image: "huge.test/image:1" } };
    const { info } = await agent.client.call("ImageStatus", { ...question, verbose: true });
    assert.equal(
      (JSON.parse(info?.["info"] ?? "{}") as { labels: { label: string } }).labels.label.length,
      label.length,
    );
    await agent.client.call("RemoveImage", question);

    const built = buildImage({ layers, config: { Labels: { label: "~".repeat(3 * MiB) } } });
    const bytes = Buffer.from(built.configuration.bytes.map((byte) => (byte === 0x7e ? 0xff : byte)));
    await writeFile(
      path,
      dockerArchive({ ...built, configuration: { ...built.configuration, bytes } }, ["huge.test/image:2"]),
    );
    await fails(agent.client.call("ImportImage", { path }), "INVALID_ARGUMENT", /more than 4194304 bytes as text/);
  });

  it("pods with long annotations do not keep others out of the lists", async () => {
    const long = "x".repeat(1.9 * MiB);
    const annotations = { long, short: "kept" };
    const heavy = await Promise.all(Array.from({ length: 12 }, () => runPod(agent, { annotations })));
    const heavyContainers = await Promise.all(
      heavy.slice(0, 10).map((one) => runContainer(agent, one, { ...sh("sleep 1000"), annotations })),
    );
    const { items } = await agent.client.call("ListPodSandbox", {});
    assert.equal(items.length, 13);
    const listed = items.find(({ id }) => id === heavy[0]?.id);
    assert.deepEqual(listed?.annotations, { short: "kept" });
    const { containers } = await agent.client.call("ListContainers", {});
    assert.equal(containers.length, 11);
    assert.deepEqual(containers.find(({ id }) => id === heavyContainers[0])?.annotations, { short: "kept" });
    // one by one, and as a stream, they are whole
    assert.equal((await podStatus(agent, heavy[0]?.id ?? "")).annotations?.["long"], long);
    let streamed = 0;
    for await (const piece of agent.client.stream("StreamPodSandboxes", {})) {
      for (const { annotations: all } of piece.pod_sandboxes ?? []) if (all?.["long"] === long) streamed++;
    }
    assert.equal(streamed, 12);
    assert.equal(agent.logs().split("are too long for a list").length, 2, "it is said once");
    await Promise.all(heavy.map((one) => removePod(agent, one)));
  });
});
