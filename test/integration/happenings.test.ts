/** WatchHappenings and PrefetchImage: what `berth events` and `berth kube` live on. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { berth } from "../../cri-proto/generated/admin.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { importBusybox, long, removePod, runContainer, runPod, runToEnd, sh } from "../support/workload.js";

type Happening = berth.v1.Happening;
const patienceMs = 30_000;

/** The first happening that is `wanted`. */
async function first(
  agent: TestAgent,
  request: berth.v1.IWatchHappeningsRequest,
  wanted: (happening: Happening) => boolean,
): Promise<Happening> {
  const watch = async (): Promise<Happening> => {
    for await (const happening of agent.client.stream("WatchHappenings", request)) {
      if (wanted(happening as Happening)) return happening as Happening;
    }
    throw new Error("the stream ended");
  };
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error("it does not happen")), patienceMs).unref();
  });
  return Promise.race([watch(), late]);
}

/** The record of a pod that an agent has not brought to life. */
function leaveHalfMadePod(agent: TestAgent, id: string): void {
  mkdirSync(join(agent.paths.root, "state", "pods"), { recursive: true });
  const record = {
    version: 1,
    id,
    phase: "starting",
    config: { metadata: { name: "half", namespace: "ns", uid: "u-1" } },
    runtimeHandler: "",
    createdAt: "1",
    bootId: "another",
    monitorCgroup: `${agent.cgroupRoot}/berth-${id}`,
    cgroupParent: agent.cgroupRoot,
    madeCgroupParents: [],
    netnsPath: "",
    network: null,
    addresses: [],
  };
  writeFileSync(join(agent.paths.root, "state", "pods", `${id}.json`), `${JSON.stringify(record)}\n`);
}

describe("WatchHappenings", () => {
  let agent: TestAgent;
  let image: BuiltImage;
  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    image = buildImage({ layers: [[{ path: "a", content: Buffer.from("a") }]], compression: "none" });
  });
  after(() => agent.stop());

  it("tells what happens with Kubernetes' names, and to who comes later what he has missed", async () => {
    const told = first(agent, {}, ({ type }) => type === "container-exit");
    const pod = await runPod(agent);
    const { id, status } = await runToEnd(agent, pod, sh("exit 3"));
    const happening = await told;
    const { metadata } = pod.config;
    assert.deepEqual(
      [happening.pod_sandbox_id, happening.container_id, happening.pod_namespace, happening.pod_name],
      [pod.id, id, metadata?.namespace, metadata?.name],
    );
    assert.deepEqual([happening.pod_uid, happening.container_name], [metadata?.uid, status.metadata?.name]);
    assert.equal(happening.details["exit_code"], "3");
    const again = await first(agent, { types: ["container-exit"] }, () => true);
    assert.deepEqual(again, happening);
    await removePod(agent, pod);
    const next = await first(agent, { after: happening.at }, () => true);
    assert.ok(next.at.greaterThan(happening.at));
  });

  it("tells of a pull whose layer has other bytes than its digest promises", async () => {
    const registry = await startLyingRegistry(image, (_request, response, path) => {
      if (!path.includes(image.layers[0]?.digest ?? "")) return false;
      const bytes = Buffer.from(image.layers[0]?.bytes ?? "");
      bytes[0] = 1 ^ (bytes[0] ?? 0);
      response.writeHead(200, { "content-length": bytes.length }).end(bytes);
      return true;
    });
    const reference = `${registry.host}/x/y:1`;
    await assert.rejects(agent.client.call("PullImage", { image: { image: reference } }), /its digest is/);
    const happening = await first(agent, { types: ["pull-ended"] }, ({ details }) => details["image"] === reference);
    assert.equal(happening.details["failure"], "INTERNAL");
    assert.match(happening.message, new RegExp(image.layers[0]?.digest ?? "-"));
    await registry.stop();
  });

  it("tells whom the kernel has killed for memory, and among which it chose", async () => {
    const told = first(agent, { types: ["oom"] }, () => true);
    const pod = await runPod(agent);
    const linux = { resources: { memory_limit_in_bytes: long(16 * 1024 * 1024) } };
    // it lives on: only the cgroup's counter, and nothing of the container's end, tells of it
    await runContainer(agent, pod, { ...sh("while :; do tail -c 200m /dev/zero; done"), linux });
    const { message, severity } = await told;
    assert.match(message, /killed tail \(\d+\) at the limit of 16.0 MiB, among .*tail \(\d+\) \d|kernel's log/);
    assert.equal(severity, "warning");
    await removePod(agent, pod);
  });

  it("prefetches an image at low priority", async () => {
    const registry = await startLyingRegistry(image);
    const reference = `${registry.host}/x/z:1`;
    const { image_ref } = await agent.client.call("PrefetchImage", { image: reference });
    assert.equal(image_ref, image.id);
    const happening = await first(agent, { types: ["pull-ended"] }, ({ details }) => details["image"] === reference);
    assert.equal(happening.details["priority"], "low");
    await assert.rejects(agent.client.call("PrefetchImage", {}), /image is missing/);
    await agent.client.call("RemoveImage", { image: { image: reference } });
    await registry.stop();
  });

  it("tells what a start has repaired, and of whose pod it was", async () => {
    const id = "e".repeat(64);
    await agent.kill9();
    leaveHalfMadePod(agent, id);
    await agent.restart();
    const happening = await first(agent, { types: ["repaired"] }, ({ details }) => details["subject"] === id);
    assert.deepEqual(
      [happening.pod_namespace, happening.pod_name, happening.pod_uid, happening.severity],
      ["ns", "half", "u-1", "info"],
    );
  });
});

describe("berth events", () => {
  const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
  let agent: TestAgent;
  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
  });
  after(() => agent.stop());

  const berth = (...args: string[]) =>
    spawn(process.execPath, [program, "events", ...args], {
      env: { ...process.env, BERTH_SOCKET: agent.socket },
      stdio: ["ignore", "pipe", "inherit"],
    });

  async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
    let text = "";
    for await (const part of stream) text += part.toString();
    return text;
  }

  it("tells what is remembered, and with -f what comes", async () => {
    const following = berth("-f", "--type", "container-exit", "--json");
    const pod = await runPod(agent);
    const { id } = await runToEnd(agent, pod, sh("exit 7"));
    const told: string[] = [];
    for await (const line of createInterface({ input: following.stdout })) {
      told.push(line);
      if (line.includes(id)) break;
    }
    following.kill();
    const [event] = told.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.equal(event?.["container_id"], id);
    assert.equal(event?.["type"], "container-exit");
    assert.equal(typeof event?.["at"], "string");
    await removePod(agent, pod);

    const text = await textOf(berth("--type", "container-exit").stdout);
    assert.match(text, /^\d{4}-\d\d-\d\dT[\d:.]+Z \w+ +container-exit +test\/pod-[0-9a-f]+\S*: .*7/);
    assert.equal(await textOf(berth("--since", "2100-01-01T00:00:00Z").stdout), "");
  });
});
