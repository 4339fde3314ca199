/** /metrics of a node whose cgroups and network namespace are real, read as Prometheus reads it. */
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { containerCgroups, type ObservedNode } from "../../metrics/collect.js";
import { parsePodLabels } from "../../metrics/pod-labels.js";
import { type MetricsServer, startMetricsServer } from "../../metrics/server.js";
import { native } from "../../native/binding.js";
import type { CgroupManager } from "../../sandbox/cgroup/manager.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import type { Container } from "../../sandbox/container.js";
import { Containers, Pods } from "../../sandbox/index-of-ids.js";
import { Latch } from "../../sandbox/latch.js";
import { Observer } from "../../sandbox/observer.js";
import type { Pod } from "../../sandbox/pod.js";
import { startNamespace, type TestNamespace } from "../support/network-namespace.js";

const unique = `${process.pid}-${randomBytes(3).toString("hex")}`;
const root = `/berth-test-metrics-${unique}`;
const bridge = `btm${randomBytes(4).toString("hex")}`;
const mebibyte = 1 << 20;
const startedAt = 1_700_000_000_250_000_000n;

function makePod(netnsPath: string): Pod {
  return {
    record: {
      version: 1,
      id: "a".repeat(64),
      phase: "ready",
      config: {},
      runtimeHandler: "",
      createdAt: "0",
      bootId: "",
      monitorCgroup: `${root}/berth-pod`,
      cgroupParent: root,
      madeCgroupParents: [],
      netnsPath,
      network: null,
      addresses: [],
    },
    config: {
      metadata: { name: "web", namespace: 'the "default"\nof\\all', uid: "u", attempt: 0 },
      labels: { team: 'a "quoted"\nteam', "app.kubernetes.io/name": "x".repeat(10_000), other: "not asked for" },
    },
    monitorPid: process.pid,
  };
}

function makeContainer(pod: Pod): Container {
  return {
    record: {
      version: 1,
      id: "c".repeat(64),
      podId: pod.record.id,
      phase: "running",
      config: {},
      imageId: "sha256:1",
      layers: [],
      spec: null,
      cgroupPath: `${root}/container`,
      logPath: "",
      createdAt: "0",
      startedAt: startedAt.toString(),
      finishedAt: "0",
      exitCode: 0,
      reason: "",
      message: "",
      stopSignal: 15,
    },
    config: { metadata: { name: "nginx", attempt: 0 }, image: { image: "sha256:1", user_specified_image: "web:1" } },
    pid: 0,
    ended: new Latch(),
  };
}

interface Series {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Prometheus' text format, as far as it is used here. */
function parse(text: string): { series: Series[]; types: Map<string, string> } {
  const series: Series[] = [];
  const types = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, typed, type] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (typed !== undefined && type !== undefined) types.set(typed, type);
    if (line === "" || line.startsWith("#")) continue;
    const [, name, inner = "", value] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    assert.ok(name !== undefined && value !== undefined, `not a line of Prometheus' format: ${line}`);
    const labels: Record<string, string> = {};
    for (const [, label, quoted] of inner.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[label ?? ""] = (quoted ?? "").replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    }
    series.push({ name, labels, value: Number(value) });
  }
  return { series, types };
}

describe("/metrics", () => {
  const manager = openCgroupManager();
  let passes = 0;
  const cgroups: CgroupManager = {
    ...manager,
    sample: (paths) => {
      passes++;
      return manager.sample(paths);
    },
  };
  const node: ObservedNode = {
    pods: new Pods(),
    containers: new Containers(),
    cgroups,
    cgroupRoot: root,
    observer: new Observer(),
    network: { pendingRemovals: () => [] },
    store: { pods: { size: 3 }, containers: { size: 4 } },
    snapshots: {
      directory: tmpdir(),
      writableLayerUsage: async () => ({ bytes: 8192, inodes: 2, timestamp: 0n }),
    },
  };
  let namespace: TestNamespace;
  let server: MetricsServer;
  let container: Container;
  let url = "";
  let end: Promise<unknown>;
  let child: ChildProcessByStdio<null, Readable, null>;

  before(async () => {
    namespace = await startNamespace();
    await native.ensureBridge({ name: bridge, addresses: [], mtu: 1500 });
    await native.attachVeth({
      namespaceFd: namespace.fd,
      bridge,
      hostName: `${bridge}h`,
      podName: "eth0",
      podMac: "0a:58:0a:e9:00:02",
      mtu: 1500,
      addresses: ["10.233.0.2/30"],
      gateways: [],
    });
    const pod = makePod(`/proc/${namespace.pid}/ns/net`);
    container = makeContainer(pod);
    node.pods.add(pod);
    node.containers.add(container);
    const { cgroupPath } = container.record;
    await manager.create(cgroupPath, { memory: { limit: 64 * mebibyte }, pids: { limit: 100 } });
    const { tasksFiles, cgroup2Directory } = manager.handles(cgroupPath);
    const files = [...tasksFiles, ...(cgroup2Directory === "" ? [] : [join(cgroup2Directory, "cgroup.procs")])];
    const script = `${files.map((file) => `echo 0 > '${file}'`).join("; ")}; echo up; exec sleep 60`;
    child = spawn("/bin/sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
    end = once(child, "exit");
    await once(child.stdout, "data");
    server = await startMetricsServer({ host: "127.0.0.1", port: 0, version: "1.2.3" }, node);
    url = `http://127.0.0.1:${server.port}/metrics`;
  });

  after(async () => {
    await server.close();
    await manager.kill(container.record.cgroupPath);
    await end;
    await manager.remove(root);
    await namespace.stop();
    await native.deleteLink(`${bridge}h`);
    await native.deleteLink(bridge);
  });

  /** A pass of its own: what was read before is no longer fresh. */
  const scrape = async () => {
    await sleep(110);
    const response = await fetch(url);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
    return parse(await response.text());
  };

  it("tells of a container what its cgroup's files tell", async () => {
    let page = await scrape();
    const hasRss = () => page.series.some(({ name, value }) => name === "container_memory_rss" && value > 0);
    // the kernel adds up every two seconds what each CPU has counted, unless it is much
    for (let tries = 0; tries < 100 && !hasRss(); tries++) page = await scrape();
    const { series, types } = page;
    const labels = {
      container: "nginx",
      id: `${root}/container`,
      image: "web:1",
      name: "c".repeat(64),
      namespace: 'the "default"\nof\\all',
      pod: "web",
    };
    const find = (name: string, more: Record<string, string> = {}) => {
      const found = series.filter((one) => one.name === name);
      assert.equal(found.length, 1, name);
      assert.deepEqual(found[0]?.labels, { ...labels, ...more }, name);
      return found[0]?.value ?? Number.NaN;
    };
    const memory = manager.hierarchies.find(({ controllers }) => controllers.includes("memory"));
    const file = memory?.version === 2 ? "memory.current" : "memory.usage_in_bytes";
    const told = Number(readFileSync(join(memory?.mountPoint ?? "", `${root}/container`, file), "utf8"));
    assert.ok(Math.abs(find("container_memory_usage_bytes") - told) <= mebibyte);
    assert.ok(find("container_memory_working_set_bytes") <= told + mebibyte);
    assert.ok(find("container_memory_rss") > 0);
    assert.ok(find("container_cpu_usage_seconds_total", { cpu: "total" }) > 0);
    assert.equal(find("container_spec_memory_limit_bytes"), 64 * mebibyte);
    assert.equal(find("container_oom_events_total"), 0);
    assert.equal(find("container_processes"), 1);
    assert.equal(find("container_threads"), 1);
    const states = series.filter(({ name }) => name === "container_tasks_state");
    assert.deepEqual(
      states.map(({ labels: { state }, value }) => [state, value]),
      [
        ["running", 0],
        ["sleeping", 1],
        ["stopped", 0],
        ["uninterruptible", 0],
      ],
    );
    assert.equal(find("container_file_descriptors"), readdirSync(`/proc/${child.pid}/fd`).length);
    assert.equal(find("container_threads_max"), 100);
    assert.equal(find("container_start_time_seconds"), 1_700_000_000.25);
    assert.ok(Math.abs(find("container_last_seen") - Date.now() / 1000) < 10);
    assert.equal(types.get("container_memory_usage_bytes"), "gauge");
    assert.equal(types.get("container_cpu_usage_seconds_total"), "counter");
    for (const name of ["container_memory_cache", "container_memory_mapped_file", "container_memory_swap"]) find(name);
  });

  it("tells of a pod's network as the pod sees it", async () => {
    const [before] = await native.listLinks({ namespaceFd: namespace.fd }).then((links) => links.filter(isEth0));
    const { series } = await scrape();
    const [after] = await native.listLinks({ namespaceFd: namespace.fd }).then((links) => links.filter(isEth0));
    const [sent] = series.filter(({ name }) => name === "container_network_transmit_bytes_total");
    assert.deepEqual(sent?.labels, {
      container: "",
      id: `${root}/berth-pod`,
      image: "",
      interface: "eth0",
      name: "a".repeat(64),
      namespace: 'the "default"\nof\\all',
      pod: "web",
    });
    assert.ok(before !== undefined && after !== undefined);
    assert.ok(sent.value >= before.txBytes && sent.value <= after.txBytes);
    assert.equal(series.filter(({ name }) => name.startsWith("container_network_")).length, 8);
  });

  it("tells of Berth itself", async () => {
    server.observeCall({ method: "RunPodSandbox", code: "OK", seconds: 0.004 });
    server.observeCall({ method: "RunPodSandbox", code: "INVALID_ARGUMENT", seconds: 0.0001 });
    await node.observer.step("start-pod", "network", () => undefined);
    node.observer.emit({ type: "container-exit", podId: "", containerId: "", exitCode: 137, oomKilled: true });
    node.observer.emit({ type: "repaired", what: "cgroup", subject: "/x" });
    node.observer.emit({ type: "record-written", seconds: 0.0003, failed: false });
    for (let n = 0; n < 500; n++) {
      node.observer.emit({ type: "trouble", what: `what nobody has thought of ${n}`, subject: "", error: null });
    }
    const { series } = await scrape();
    const value = (name: string, labels: Record<string, string>) =>
      series.find((one) => one.name === name && Object.entries(labels).every(([key, text]) => one.labels[key] === text))
        ?.value;
    assert.equal(value("berth_call_duration_seconds_count", { method: "RunPodSandbox" }), 2);
    assert.equal(value("berth_call_duration_seconds_bucket", { method: "RunPodSandbox", le: "0.0005" }), 1);
    assert.equal(value("berth_call_errors_total", { method: "RunPodSandbox", code: "INVALID_ARGUMENT" }), 1);
    assert.equal(value("berth_call_errors_total", { code: "OK" }), undefined);
    assert.equal(value("berth_step_duration_seconds_count", { operation: "start-pod", step: "network" }), 1);
    assert.equal(value("berth_container_exits_total", { reason: "OOMKilled" }), 1);
    assert.equal(value("berth_repaired_total", { what: "cgroup" }), 1);
    assert.equal(value("berth_store_write_duration_seconds_count", {}), 1);
    assert.equal(value("berth_store_write_failures_total", {}), 0);
    assert.equal(value("berth_store_records", { kind: "containers" }), 4);
    // a process's own memory, here that of the test itself
    assert.ok((value("berth_monitors_memory_bytes", {}) ?? 0) > mebibyte);
    assert.ok((value("nodejs_gc_duration_seconds_count", { kind: "minor" }) ?? 0) > 0);
    // however many there are, the series are bounded
    assert.ok(series.filter(({ name }) => name === "berth_troubles_total").length <= 301);
    assert.equal(value("berth_troubles_total", { what: "other" }), 200);
    assert.equal(value("berth_pods", { state: "ready" }), 1);
    assert.equal(value("berth_containers", { state: "running" }), 1);
    assert.equal(value("berth_build_info", { version: "1.2.3" }), 1);
    assert.ok((value("process_resident_memory_bytes", {}) ?? 0) > mebibyte);
  });

  it("reads once for many who ask at the same time", async () => {
    await sleep(110);
    const before = passes;
    const samples = await Promise.all(Array.from({ length: 8 }, () => containerCgroups.ofAll(node)));
    assert.equal(passes, before + 1);
    assert.equal(samples.filter(({ size }) => size === 1).length, 8);
  });

  it("answers GET of /metrics and nothing else", async () => {
    const status = async (path: string, method: string) => {
      const response = await fetch(new URL(path, url), { method });
      await response.text();
      return [response.status, response.headers.get("allow")];
    };
    assert.deepEqual(await status("/metrics?x=1", "GET"), [200, null]);
    assert.deepEqual(await status("/", "GET"), [404, null]);
    assert.deepEqual(await status("/metrics/", "GET"), [404, null]);
    assert.deepEqual(await status("/metrics", "POST"), [405, "GET"]);
  });

  it("speaks OpenMetrics and gzip to who asks for them", async () => {
    const open = await fetch(url, {
      headers: { accept: "application/openmetrics-text;version=1.0.0,text/plain;q=0.5" },
    });
    assert.match(open.headers.get("content-type") ?? "", /^application\/openmetrics-text; version=1\.0\.0/);
    const text = await open.text();
    assert.ok(text.endsWith("# EOF\n") && text.indexOf("# EOF") === text.length - 6);
    assert.match(text, /^# TYPE container_cpu_usage_seconds counter$/m);
    // each format has its own names of the agent's counters, too, whichever was asked for before
    assert.match(text, /^# TYPE berth_oom_notices counter\nberth_oom_notices_total 0$/m);
    assert.match(
      await (await fetch(url)).text(),
      /^# TYPE berth_oom_notices_total counter\nberth_oom_notices_total 0$/m,
    );
    const packed = await new Promise<IncomingMessage>((resolve) => {
      get(url, { headers: { "accept-encoding": "gzip" } }, resolve);
    });
    assert.equal(packed.headers["content-encoding"], "gzip");
    const bytes = Buffer.concat(await packed.toArray());
    assert.match(gunzipSync(bytes).toString(), /^# TYPE container_cpu_usage_seconds_total counter$/m);
    assert.ok(bytes.length < text.length / 3);
  });

  it("leads from a slow call to its trace, in OpenMetrics", async () => {
    const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
    server.observeCall({ method: "PullImage", code: "OK", seconds: 1.5, traceId });
    server.observeCall({ method: "PullImage", code: "OK", seconds: 1.75 });
    const open = await (await fetch(url, { headers: { accept: "application/openmetrics-text" } })).text();
    const [bucket] = open.split("\n").filter((line) => line.includes(`method="PullImage",le="2"`));
    assert.match(bucket ?? "", new RegExp(`} 2 # {trace_id="${traceId}"} 1\\.5 \\d{10}(\\.\\d+)?$`));
    assert.equal(open.split(traceId).length, 2);
    assert.ok(!(await (await fetch(url)).text()).includes(traceId));
  });

  it("is on a socket for those who may open it, with the labels of pods that were chosen", async () => {
    const path = join(tmpdir(), `berth-metrics-${unique}.sock`);
    const podLabels = parsePodLabels("team,app.kubernetes.io/name=application,absent");
    const start = () => startMetricsServer({ path, version: "1", podLabels }, node);
    const other = await start();
    try {
      assert.equal(other.where, `unix://${path}`);
      assert.equal(statSync(path).mode & 0o777, 0o660);
      await assert.rejects(start(), /another program listens on/);
      const response = await new Promise<IncomingMessage>((resolve) => {
        get({ socketPath: path, path: "/metrics" }, resolve);
      });
      const { series } = parse(Buffer.concat(await response.toArray()).toString());
      const [memory] = series.filter(({ name }) => name === "container_memory_usage_bytes");
      const { label_team, application, ...rest } = memory?.labels ?? {};
      assert.deepEqual([label_team, application], ['a "quoted"\nteam', "x".repeat(128)]);
      assert.deepEqual(Object.keys(rest), ["container", "id", "image", "name", "namespace", "pod"]);
    } finally {
      await other.close();
    }
    assert.equal(existsSync(path), false);
  });

  it("is not held up by a client that sends nothing, or takes no answer", async () => {
    const idle = connect(server.port, "127.0.0.1");
    const deaf = connect(server.port, "127.0.0.1");
    await Promise.all([once(idle, "connect"), once(deaf, "connect")]);
    deaf.pause();
    deaf.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert.ok((await scrape()).series.length > 0);
    idle.destroy();
    deaf.destroy();
  });

  for (const encoding of ["identity", "gzip"]) {
    it(`gives one that takes its answer slowly each line of it (${encoding})`, async () => {
      const [pod] = node.pods.list();
      assert.ok(pod !== undefined);
      const ids = Array.from({ length: 500 }, (_, index) => String(index).padStart(64, "0"));
      for (const id of ids) {
        const one = makeContainer(pod);
        one.record.id = id;
        node.containers.add(one);
      }
      try {
        // what was read before is no longer fresh
        await sleep(110);
        const response = await new Promise<IncomingMessage>((resolve) => {
          get(url, { headers: { "accept-encoding": encoding } }, resolve);
        });
        const pieces: Buffer[] = [];
        for await (const piece of response) {
          pieces.push(piece);
          // until the kernel's buffers are full, and not only then
          if (pieces.length === 1) await sleep(500);
          else if (pieces.length % 64 === 0) await sleep(2);
        }
        const answer = Buffer.concat(pieces);
        const { series } = parse((encoding === "gzip" ? gunzipSync(answer) : answer).toString());
        const started = series.filter(({ name }) => name === "container_start_time_seconds");
        assert.equal(started.length, ids.length + 1);
        const [first, ...others] = ids.map((id) => series.filter(({ labels }) => labels["name"] === id).length);
        assert.ok(first !== undefined && first > 20 && others.every((count) => count === first));
      } finally {
        for (const id of ids) node.containers.delete(id);
      }
    });
  }

  it("closes to a client that asks again before its answer, and answers one that asks again and again", async () => {
    const ask = "GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n";
    const greedy = connect(server.port, "127.0.0.1", () => greedy.write(ask.repeat(1_000)));
    let told = "";
    greedy.on("data", (bytes) => (told += bytes.toString("latin1")));
    await once(greedy, "close");
    assert.ok(told.split("HTTP/1.1 200").length <= 2);

    const patient = connect(server.port, "127.0.0.1");
    for (let asked = 0; asked < 5; asked++) {
      let answer = "";
      patient.write(ask);
      for (; !answer.endsWith("\r\n0\r\n\r\n"); answer += (await once(patient, "data"))[0].toString("latin1"));
      assert.match(answer, /^HTTP\/1.1 200 /);
    }
    patient.destroy();
  });

  it("has no series of what is gone", async () => {
    const before = (await scrape()).series.filter(({ name }) => name.startsWith("container_"));
    assert.ok(before.length > 20);
    container.record = { ...container.record, phase: "exited" };
    const exited = (await scrape()).series.filter(({ name }) => name.startsWith("container_"));
    assert.deepEqual([...new Set(exited.map(({ labels }) => labels["container"]))], [""]);
    for (const pod of node.pods.list()) node.pods.delete(pod.record.id);
    assert.deepEqual(
      (await scrape()).series.filter(({ name }) => name.startsWith("container_")),
      [],
    );
  });

  it("tells who has the port when it is taken", async () => {
    await assert.rejects(
      startMetricsServer({ host: "127.0.0.1", port: server.port, version: "1" }, node),
      /EADDRINUSE/,
    );
  });
});

function isEth0({ name }: { name: string }): boolean {
  return name === "eth0";
}
