/** Objects that are larger than anybody needs: they may fail, and nothing else may. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { methodDefinition, runtimeService } from "../../agent/services.js";
import { startAgent, type TestAgent } from "../support/agent.js";
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
