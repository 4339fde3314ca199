/** `berth kube`, a real process, between a real agent and a small real API server. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "../../agent/cli/client.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type ApiServerObject, TestApiServer } from "../support/api-server.js";
import { makeAuthority, type TestAuthority } from "../support/certificates.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { type LyingRegistry, startLyingRegistry } from "../support/lying-registry.js";
import { until } from "../support/until.js";
import { importBusybox, long, removePod, runPod, runToEnd, sh } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const node = "node-1";
const nobody = 65_534;
const patienceMs = 60_000;

interface PatchBody {
  metadata: { labels: Record<string, string>; annotations: Record<string, string> };
  status: {
    conditions: { type: string; status: string; reason: string; message: string; lastTransitionTime: string }[];
  };
}
interface EventBody {
  reason: string;
  message: string;
  count: number;
  involvedObject: { name: string; uid: string; fieldPath?: string };
}

/** A working copy may lie where only root may go: then it runs as root here. */
function isForAll(path: string): boolean {
  const look = `require("node:fs").accessSync(${JSON.stringify(path)})`;
  return spawnSync(process.execPath, ["-e", look], { uid: nobody, gid: nobody }).status === 0;
}

describe("berth kube", () => {
  let agent: TestAgent;
  let authority: TestAuthority;
  let server: TestApiServer;
  let registry: LyingRegistry;
  let image: BuiltImage;
  let kube: ChildProcess;
  let log = "";
  const broken = new Set<string>();

  before(async () => {
    agent = await startAgent();
    const kubeSocket = `unix://${agent.paths.base}/kube/agent.sock`;
    await agent.restart({ "kube-socket": kubeSocket, "kube-group": String(nobody) });
    await importBusybox(agent);
    authority = await makeAuthority();
    server = new TestApiServer({ tls: await authority.server("IP:127.0.0.1"), tokens: new Set(["secret"]) });
    await server.start();
    image = buildImage({ layers: [[{ path: "a", content: Buffer.from("a") }]], compression: "none" });
    registry = await startLyingRegistry(image, (_request, response, path) => {
      if (!path.includes("/blobs/") || ![...broken].some((name) => path.includes(name))) return false;
      response.writeHead(200).end("something else");
      return true;
    });
    const config = {
      clusters: [{ name: "c", cluster: { server: server.url, "certificate-authority": authority.certificate } }],
      users: [{ name: "u", user: { token: "secret" } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    const kubeconfig = join(agent.paths.base, "kubeconfig");
    writeFileSync(kubeconfig, JSON.stringify(config));
    const sockets = ["--socket", kubeSocket, "--metrics", "127.0.0.1:0"];
    const args = ["kube", ...sockets, "--kubeconfig", kubeconfig, "--node", node];
    // without root: it gets at its own socket and its kubeconfig, and at nothing else of the agent's
    chmodSync(agent.paths.base, 0o711);
    chownSync(kubeconfig, nobody, nobody);
    chmodSync(authority.directory, 0o755);
    const user = isForAll(program) ? { uid: nobody, gid: nobody } : {};
    kube = spawn(process.execPath, [program, ...args], { ...user, stdio: ["ignore", "ignore", "pipe"] });
    kube.stderr?.on("data", (piece: Buffer) => {
      log += piece;
    });
    await until(() => server.watchesOf("/api/v1/pods") === 1 || kube.exitCode !== null, patienceMs);
    assert.equal(kube.exitCode, null, log);
  });
  after(async () => {
    if (kube.exitCode === null) {
      kube.kill("SIGTERM");
      await once(kube, "exit");
    }
    assert.equal(kube.exitCode, 0, log);
    await server.stop();
    await registry.stop();
    await authority.remove();
    await agent.stop();
  });

  const patches = () =>
    server.requests("PATCH", /^\/api\/v1\/nodes\/node-1\/status$/).map(({ body }) => body as PatchBody);
  const events = () => server.requests("POST", /\/events$/).map(({ body }) => body as EventBody);
  const bound = (name: string, more: { images?: string[]; owner?: string; secrets?: object[] }): ApiServerObject => ({
    metadata: { name, namespace: "test", uid: `uid-${name}`, ownerReferences: more.owner ? [{ uid: more.owner }] : [] },
    spec: {
      nodeName: node,
      containers: (more.images ?? []).map((named) => ({ image: named })),
      imagePullSecrets: more.secrets ?? [],
    },
    status: { phase: "Pending" },
  });
  const hasImage = async (reference: string): Promise<boolean> =>
    (await agent.client.call("ImageStatus", { image: { image: reference } })).image !== null;
  const untilImage = async (reference: string): Promise<void> => {
    const asked = `/v2/${reference.split("/").slice(1).join("/").split(":")[0]}/`;
    await until(() => registry.seen.some(({ path }) => path.startsWith(asked)), patienceMs);
    for (const end = Date.now() + patienceMs; !(await hasImage(reference)); ) {
      assert.ok(Date.now() < end, `${reference} is not there:\n${log}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  it("tells the node's condition, and what the runtime can do", async () => {
    await until(() => patches().length > 0, patienceMs);
    const [patch] = patches();
    const { type, status, reason } = patch?.status.conditions[0] ?? {};
    assert.equal(type, "BerthHealthy");
    const { findings } = JSON.parse((await agent.client.call("Status", { verbose: true })).info["info"] ?? "");
    const grave = findings.find(({ severity }: { severity: string }) => severity === "error");
    assert.deepEqual([status, reason], grave ? ["False", grave.id] : ["True", "BerthIsHealthy"]);
    const { labels, annotations } = patch?.metadata ?? {};
    assert.match(labels?.["berth.dev/cgroup-version"] ?? "", /^(v1|v2|hybrid)$/);
    assert.equal(labels?.["berth.dev/storage-driver"], "overlay");
    assert.match(annotations?.["berth.dev/version"] ?? "", /^\d/);
  });

  it("has a socket with the calls that it makes, and no others", async () => {
    const client = connect(`unix://${agent.paths.base}/kube/agent.sock`);
    await client.call("Version", {});
    await assert.rejects(client.call("ListPodSandbox", {}), { code: 12 });
    await assert.rejects(client.call("RunPodSandbox", {}), { code: 12 });
    client.close();
  });

  it("prefetches what a pod of this node waits for, and a ConfigMap names, and a DaemonSet will have", async () => {
    const named = (name: string) => `${registry.host}/x/${name}:1`;
    server.put("/api/v1/pods", bound("web", { images: [named("web")], owner: "ds-1" }));
    server.put("/api/v1/pods", bound("private", { images: [named("private")], secrets: [{ name: "s" }] }));
    await untilImage(named("web"));
    server.put("/apis/apps/v1/daemonsets", {
      metadata: { name: "ds", namespace: "test", uid: "ds-1" },
      spec: { template: { spec: { containers: [{ image: named("web-2") }] } } },
    });
    await untilImage(named("web-2"));
    server.put("/apis/apps/v1/daemonsets", {
      metadata: { name: "other", namespace: "test", uid: "ds-2" },
      spec: { template: { spec: { containers: [{ image: named("other") }] } } },
    });
    server.put("/api/v1/namespaces/berth-system/configmaps", {
      metadata: { name: "image-prefetch", namespace: "berth-system", uid: "cm" },
      data: { images: `# for tomorrow\n${named("tomorrow")}\n` },
    });
    await untilImage(named("tomorrow"));
    const asked = registry.seen.map(({ path }) => path).join(" ");
    assert.ok(!asked.includes("/x/private/") && !asked.includes("/x/other/"), asked);
    const { image_ref } = await agent.client.call("PullImage", { image: { image: named("web") } });
    assert.equal(image_ref, image.id);
  });

  it("makes an Event of what only the runtime knows, once, and counts the rest", async () => {
    const reference = `${registry.host}/x/rotten:1`;
    broken.add("rotten");
    server.put("/api/v1/pods", bound("rotten", { images: [reference] }));
    // the image that is there already has the same blobs
    for (const { id } of (await agent.client.call("ListImages", {})).images) {
      if (id === image.id) await agent.client.call("RemoveImage", { image: { image: id } });
    }
    await assert.rejects(agent.client.call("PullImage", { image: { image: reference } }));
    await until(() => events().some(({ reason }) => reason === "ImageContentMismatch"), patienceMs);
    const event = events().find(({ reason }) => reason === "ImageContentMismatch");
    assert.equal(event?.involvedObject.uid, "uid-rotten");
    await assert.rejects(agent.client.call("PullImage", { image: { image: reference } }));
    await until(() => server.requests("PATCH", /\/namespaces\/test\/events\/rotten\./).length > 0, patienceMs);
    const counted = server.requests("PATCH", /\/events\//).at(-1)?.body as EventBody;
    assert.ok(counted.count >= 2, JSON.stringify(counted));
    assert.equal(events().filter(({ reason }) => reason === "ImageContentMismatch").length, 1);
  });

  it("tells whose a pod is, on metrics of its own", async () => {
    const owner = { apiVersion: "apps/v1", kind: "ReplicaSet", name: "shop-59d6", uid: "rs", controller: true };
    const labels = { "pod-template-hash": "59d6" };
    const metadata = { name: "shop-59d6-x", namespace: "test", uid: "shop", labels, ownerReferences: [owner] };
    server.put("/api/v1/pods", { metadata, spec: { nodeName: node } });
    const where = /"where":"([^"]+)"/.exec(log)?.[1];
    const series = `berth_pod_owner{namespace="test",pod="shop-59d6-x",uid="shop",owner_kind="Deployment",owner_name="shop"} 1\n`;
    const seen = async () => (await (await fetch(`http://${where}/metrics`)).text()).includes(series);
    for (const end = Date.now() + patienceMs; !(await seen()); ) assert.ok(Date.now() < end, log);
    server.remove("/api/v1/pods", "shop");
    for (const end = Date.now() + patienceMs; await seen(); ) assert.ok(Date.now() < end, log);
    assert.equal((await fetch(`http://${where}/`)).status, 404);
  });

  it("tells whom the kernel has killed for memory", async () => {
    const pod = await runPod(agent);
    const linux = { resources: { memory_limit_in_bytes: long(16 * 1024 * 1024) } };
    await runToEnd(agent, pod, { ...sh("exec tail -c 200m /dev/zero"), linux });
    const event = () => events().find(({ reason }) => reason === "OutOfMemory");
    await until(() => event() !== undefined, patienceMs);
    assert.equal(event()?.involvedObject.uid, pod.config.metadata?.uid);
    assert.match(event()?.message ?? "", /killed tail \(\d+\) at the limit of 16.0 MiB, among tail|kernel's log/);
    await removePod(agent, pod);
  });

  it("changes nothing on the node while the API server is away, and tells afterwards how it is", async () => {
    await server.stop();
    await until(() => log.includes("cannot be watched"), patienceMs);
    const pod = await runPod(agent);
    const { output } = await runToEnd(agent, pod, sh("echo alive"));
    assert.equal(output, "alive\n");
    await removePod(agent, pod);
    const begun = server.seen.length;
    await server.start();
    await until(() => server.watchesOf("/api/v1/pods") === 1, patienceMs);
    assert.ok(server.seen.length > begun);
    assert.equal(kube.exitCode, null);
  });

  it("says that the agent is away, and goes on with the next one", async () => {
    const last = () => patches().at(-1)?.status.conditions[0];
    await agent.kill9();
    await until(() => last()?.reason === "AgentUnreachable", patienceMs);
    assert.equal(last()?.status, "False");
    await agent.restart();
    await until(() => last()?.reason !== "AgentUnreachable", patienceMs);
  });
});
