/** The CRI's statistics of containers and pods, held against the kernel's own files. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { freezer, type Told, toldByKernel, unifiedDirectory } from "../support/cgroup-files.js";
import {
  fails,
  hostPidOf,
  importBusybox,
  long,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
  untilWritten,
} from "../support/workload.js";

type ContainerStats = runtime.v1.IContainerStats;
type Value = runtime.v1.IUInt64Value | null | undefined;

const mebibyte = 1 << 20;
const number = (value: Value): number => (value ? Number(value.value) : Number.NaN);

describe("statistics over the CRI", () => {
  let agent: TestAgent;

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
  });
  after(() => agent.stop());

  /** As the kubelet does it: a cgroup of its own. */
  const podOfKubelet = (name: string) =>
    runPod(agent, {
      linux: { cgroup_parent: `${agent.cgroupRoot}/kube/${name}` },
      labels: { app: name },
      annotations: { note: "a" },
    });

  const cgroupOf = async (id: string): Promise<string> => {
    const { info } = await agent.client.call("ContainerStatus", { container_id: id, verbose: true });
    return (JSON.parse(info["info"] ?? "{}") as { cgroupPath: string }).cgroupPath;
  };

  const containerStats = async (id: string): Promise<ContainerStats> => {
    const { stats } = await agent.client.call("ContainerStats", { container_id: id });
    return stats ?? {};
  };

  const podStats = async (id: string): Promise<runtime.v1.ILinuxPodSandboxStats> => {
    const { stats } = await agent.client.call("PodSandboxStats", { pod_sandbox_id: id });
    assert.equal(stats?.attributes?.id, id);
    return stats?.linux ?? {};
  };

  /** What is told must be what the files said at some moment between two readings of them. */
  const between = (name: keyof Told, value: number, first: Told, second: Told): void => {
    const [low, high] = [first[name], second[name]];
    if (low === undefined || high === undefined) assert.ok(Number.isNaN(value), name);
    else assert.ok(value >= Math.min(low, high) && value <= Math.max(low, high), `${name}: ${low} ${value} ${high}`);
  };

  /**
   * An answer, and what the files said both before and after it: of a cgroup in which nothing happens any more. The
   * kernel gathers what each processor has counted when it pleases, some seconds later too, so it is asked again
   * until it did not do so meanwhile. An answer may be a tenth of a second old: nobody has asked for that long.
   */
  const whileStill = async <T>(
    path: string,
    ask: () => Promise<T>,
  ): Promise<{ answer: T; first: Told; second: Told }> => {
    const counted = ({ cpuNs: _, cpuWaitedNs: __, ...counts }: Told) => counts;
    for (const end = Date.now() + 60_000; ; ) {
      await sleep(200);
      const first = toldByKernel(path);
      const answer = await ask();
      const second = toldByKernel(path);
      if (isDeepStrictEqual(counted(first), counted(second))) return { answer, first, second };
      assert.ok(Date.now() < end, `what the files say goes on changing: ${JSON.stringify([first, second])}`);
    }
  };

  const untilGathered = async (path: string, rssBytes: number): Promise<void> => {
    for (const end = Date.now() + 60_000; (toldByKernel(path).rssBytes ?? rssBytes) < rssBytes; await sleep(50)) {
      assert.ok(Date.now() < end, "the kernel does not tell the memory of a process that has taken it");
    }
  };

  /** A busy machine takes its time to look through a layer; until then its figure is left out. */
  const untilMeasured = async (id: string): Promise<void> => {
    for (const end = Date.now() + 60_000; ; await sleep(100)) {
      if ((await containerStats(id)).writable_layer != null) return;
      assert.ok(Date.now() < end, "what was written is not told");
    }
  };

  it("of a container are what its cgroup's files say", async () => {
    const pod = await podOfKubelet("truth");
    const id = await runContainer(agent, pod, {
      ...sh(
        "x=$(head -c 8000000 /dev/zero | tr '\\0' x); cat /bin/busybox > /tmp/f; echo up; while :; do sleep 1000; done",
      ),
      linux: { resources: { memory_limit_in_bytes: long(64 * mebibyte) } },
      labels: { tier: "web" },
    });
    await untilWritten(agent, id, "up");
    const path = await cgroupOf(id);
    await untilMeasured(id);
    await untilGathered(path, 4 * mebibyte);
    const { answer, first, second } = await whileStill(path, () => containerStats(id));
    const { attributes, cpu, memory, swap, writable_layer: written } = answer;
    between("cpuNs", number(cpu?.usage_core_nano_seconds), first, second);
    between("memoryBytes", number(memory?.usage_bytes), first, second);
    between("rssBytes", number(memory?.rss_bytes), first, second);
    between("pageFaults", number(memory?.page_faults), first, second);
    between("cpuWaitedNs", cpu?.psi ? Number(cpu.psi.Some?.Total) : Number.NaN, first, second);
    const workingSet = (told: Told) => (told.memoryBytes ?? Number.NaN) - (told.inactiveFileBytes ?? 0);
    assert.equal(number(memory?.working_set_bytes), workingSet(first));
    assert.equal(number(memory?.available_bytes), 64 * mebibyte - workingSet(first));
    assert.ok(Math.abs(Number(cpu?.timestamp) / 1e6 - Date.now()) < 10_000);
    assert.equal(attributes?.id, id);
    assert.deepEqual(attributes?.labels, { tier: "web" });
    assert.ok(attributes?.metadata?.name);
    assert.ok(existsSync(written?.fs_id?.mountpoint ?? ""));
    assert.ok(number(written?.used_bytes) > 0 && number(written?.inodes_used) > 0);
    assert.ok(swap);
    await removePod(agent, pod);
  });

  it("tell the processor's rate over the time between two readings", async () => {
    const pod = await podOfKubelet("rate");
    const id = await runContainer(agent, pod, sh("while :; do :; done"));
    const first = (await containerStats(id)).cpu;
    await sleep(500);
    const second = (await containerStats(id)).cpu;
    const passed = Number(second?.timestamp) - Number(first?.timestamp);
    assert.ok(passed >= 400e6, `${passed}`);
    const used = number(second?.usage_core_nano_seconds) - number(first?.usage_core_nano_seconds);
    const expected = (used * 1e9) / passed;
    assert.ok(used > 0);
    assert.ok(Math.abs(number(second?.usage_nano_cores) - expected) <= expected / 1000 + 2);
    await removePod(agent, pod);
  });

  it("of a pod are those of its own cgroup, with all its containers and interfaces", async () => {
    const pod = await podOfKubelet("whole");
    const one = await runContainer(agent, pod, sh("sleep 1000 & sleep 1000 & echo up; wait"));
    const two = await runContainer(agent, pod, sh("echo up; exec sleep 1000"));
    for (const id of [one, two]) await untilWritten(agent, id, "up");
    const path = `${agent.cgroupRoot}/kube/whole`;
    const { answer, first, second } = await whileStill(path, () => podStats(pod.id));
    const { cpu, memory, process, network, containers } = answer;
    between("cpuNs", number(cpu?.usage_core_nano_seconds), first, second);
    between("memoryBytes", number(memory?.usage_bytes), first, second);
    between("cpuWaitedNs", cpu?.psi ? Number(cpu.psi.Some?.Total) : Number.NaN, first, second);
    if (first.threads !== undefined) assert.equal(number(process?.process_count), 3 + 1 + 1);
    assert.deepEqual(containers?.map(({ attributes }) => attributes?.id).sort(), [one, two].sort());
    for (const stats of containers ?? []) assert.ok(number(stats.memory?.usage_bytes) > 0);
    assert.deepEqual(
      network?.interfaces?.map(({ name }) => name),
      ["eth0"],
    );
    const [received = Number.NaN, , , , , , , , sent = Number.NaN] = await device(one);
    assert.ok(number(network?.default_interface?.rx_bytes) <= received);
    assert.ok(number(network?.default_interface?.tx_bytes) <= sent);
    assert.equal(network?.default_interface?.name, "eth0");
    await removePod(agent, pod);
  });

  /** The columns of /proc/net/dev for the pod's eth0. */
  const device = async (id: string): Promise<number[]> => {
    const table = readFileSync(`/proc/${await hostPidOf(agent, id)}/net/dev`, "utf8");
    return /^\s*eth0:\s*(.*)$/m.exec(table)?.[1]?.split(/\s+/).map(Number) ?? [];
  };

  it("of pods that share a cgroup's parent are each pod's own", async () => {
    const pods = await Promise.all([runPod(agent), runPod(agent)]);
    const ids = await Promise.all(pods.map((pod) => runContainer(agent, pod, sh("echo up; exec sleep 1000"))));
    for (const id of ids) await untilWritten(agent, id, "up");
    const parent = toldByKernel(agent.cgroupRoot);
    const [one, two] = await Promise.all(pods.map((pod) => podStats(pod.id)));
    for (const stats of [one, two]) {
      assert.equal(stats?.containers?.length, 1);
      assert.ok(number(stats?.memory?.usage_bytes) >= number(stats?.containers?.[0]?.memory?.usage_bytes));
      assert.ok(number(stats?.cpu?.usage_core_nano_seconds) < (parent.cpuNs ?? Number.POSITIVE_INFINITY));
      if (parent.threads !== undefined) assert.equal(number(stats?.process?.process_count), 2);
    }
    await Promise.all(pods.map((pod) => removePod(agent, pod)));
  });

  it("of lists are of what matches the filter, and lives", async () => {
    const pods = await Promise.all([podOfKubelet("list-a"), podOfKubelet("list-b")]);
    const [one, two] = pods as [RunningPod, RunningPod];
    const [first, second, gone] = [
      await runContainer(agent, one, { labels: { of: "a" } }),
      await runContainer(agent, two, { labels: { of: "b" } }),
      await runContainer(agent, two, { labels: { of: "b" } }),
    ];
    await agent.client.call("StopContainer", { container_id: gone, timeout: long(0) });
    const containers = async (filter: runtime.v1.IContainerStatsFilter) =>
      (await agent.client.call("ListContainerStats", { filter })).stats.map(({ attributes }) => attributes?.id);
    assert.deepEqual(await containers({ label_selector: { of: "b" } }), [second]);
    assert.deepEqual(await containers({ pod_sandbox_id: one.id }), [first]);
    assert.deepEqual(await containers({ id: second.slice(0, 12) }), [second]);
    const sandboxes = async (filter: runtime.v1.IPodSandboxStatsFilter) =>
      (await agent.client.call("ListPodSandboxStats", { filter })).stats.map(({ attributes }) => attributes?.id);
    assert.deepEqual(await sandboxes({ label_selector: { app: "list-b" } }), [two.id]);
    assert.deepEqual(await sandboxes({ id: one.id.slice(0, 12) }), [one.id]);
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: one.id });
    assert.deepEqual(await sandboxes({ id: one.id }), []);
    const { cpu, memory, network } = await podStats(one.id);
    assert.deepEqual([cpu, memory, network], [null, null, null]);
    for (const pod of pods) await removePod(agent, pod);
    await fails(agent.client.call("PodSandboxStats", { pod_sandbox_id: one.id }), "NOT_FOUND", /pod sandbox/);
    await fails(agent.client.call("PodSandboxStats", {}), "INVALID_ARGUMENT", /pod_sandbox_id/);
  });

  it("and lists of pods and containers come as streams, too", async () => {
    const pods = await Promise.all([podOfKubelet("stream-a"), podOfKubelet("stream-b")]);
    const containers = await Promise.all(pods.map((pod) => runContainer(agent, pod)));
    const gather = async <A, T>(answers: AsyncIterable<A>, items: (answer: A) => T[]): Promise<T[]> => {
      const all: T[] = [];
      for await (const answer of answers) all.push(...items(answer));
      return all;
    };
    const { client } = agent;
    const ids = pods.map(({ id }) => id).sort();
    const sandboxes = await gather(client.stream("StreamPodSandboxes", {}), (answer) => answer.pod_sandboxes);
    assert.deepEqual(sandboxes, (await client.call("ListPodSandbox", {})).items);
    assert.deepEqual(sandboxes.map(({ id }) => id).sort(), ids);
    const listed = await gather(client.stream("StreamContainers", {}), (answer) => answer.containers);
    assert.deepEqual(listed, (await client.call("ListContainers", {})).containers);
    assert.deepEqual(listed.map(({ id }) => id).sort(), containers.sort());
    const stats = await gather(client.stream("StreamContainerStats", {}), (answer) => answer.container_stats);
    assert.deepEqual(stats.map(({ attributes }) => attributes?.id).sort(), containers);
    for (const { memory } of stats) assert.ok(number(memory?.usage_bytes) > 0);
    const filter = { label_selector: { app: "stream-a" } };
    const ofPods = await gather(
      client.stream("StreamPodSandboxStats", { filter }),
      (answer) => answer.pod_sandbox_stats,
    );
    assert.deepEqual(
      ofPods.map(({ attributes }) => attributes?.metadata?.name),
      [pods[0]?.config.metadata?.name],
    );
    assert.equal(ofPods[0]?.linux?.containers?.length, 1);
    for (const pod of pods) await removePod(agent, pod);
  });

  it("come as metrics with cAdvisor's names, their labels in the declared order", async () => {
    const pod = await podOfKubelet("metrics");
    const id = await runContainer(agent, pod, {
      ...sh("head -c 100000 /dev/zero > /tmp/f; echo up; exec sleep 1000"),
      linux: {
        resources: { memory_limit_in_bytes: long(64 * mebibyte), cpu_quota: long(50_000), cpu_period: long(100_000) },
      },
    });
    await untilWritten(agent, id, "up");
    const path = await cgroupOf(id);
    await untilMeasured(id);
    const { descriptors } = await agent.client.call("ListMetricDescriptors", {});
    const keys = new Map(descriptors.map(({ name, label_keys }) => [name, label_keys]));
    assert.equal(keys.size, descriptors.length);
    const { answer, first, second } = await whileStill(path, () => agent.client.call("ListPodSandboxMetrics", {}));
    const { pod_metrics } = answer;
    const told = pod_metrics.find(({ pod_sandbox_id }) => pod_sandbox_id === pod.id);
    assert.deepEqual(
      told?.container_metrics?.map(({ container_id }) => container_id),
      [id],
    );
    const ofContainer = told?.container_metrics?.[0]?.metrics ?? [];
    for (const { name, label_values } of [...ofContainer, ...(told?.metrics ?? [])]) {
      assert.equal(label_values?.length, keys.get(name ?? "")?.length, `labels of ${name}`);
    }
    const labelled = ({ name, label_values }: runtime.v1.IMetric) =>
      Object.fromEntries((keys.get(name ?? "") ?? []).map((key, index) => [key, label_values?.[index]]));
    const find = (metrics: runtime.v1.IMetric[], name: string) => metrics.find((metric) => metric.name === name);
    const usage = find(ofContainer, "container_memory_usage_bytes");
    between("memoryBytes", number(usage?.value), first, second);
    assert.equal(usage?.metric_type, 1);
    const { container, id: cgroup, name, namespace, pod: podName, image } = labelled(usage ?? {});
    const { name: givenPod, namespace: givenNamespace } = pod.config.metadata ?? {};
    assert.deepEqual([cgroup, name, namespace, podName], [path, id, givenNamespace, givenPod]);
    assert.ok(container?.startsWith("c-") && image === "berth.test/busybox:1");
    const cpu = find(ofContainer, "container_cpu_usage_seconds_total");
    assert.equal(cpu?.metric_type, 0);
    assert.equal(labelled(cpu ?? {})["cpu"], "total");
    const values = (metricName: string) => number(find(ofContainer, metricName)?.value);
    assert.equal(values("container_spec_memory_limit_bytes"), 64 * mebibyte);
    assert.equal(values("container_spec_cpu_quota"), 50_000);
    assert.ok(values("container_fs_usage_bytes") >= 100_000 && values("container_fs_limit_bytes") > mebibyte);
    assert.ok(values("container_fs_inodes_total") >= values("container_fs_inodes_free"));
    assert.ok(values("container_file_descriptors") >= 3);
    assert.ok(values("container_ulimits_soft") > 0);
    assert.equal(values("container_sockets"), 0);
    const ofPod = told?.metrics ?? [];
    const network = find(ofPod, "container_network_receive_bytes_total");
    assert.equal(labelled(network ?? {})["interface"], "eth0");
    assert.equal(labelled(network ?? {})["name"], pod.id);
    const whole = find(ofPod, "container_memory_usage_bytes");
    assert.deepEqual(
      [labelled(whole ?? {})["id"], labelled(whole ?? {})["container"]],
      [`${agent.cgroupRoot}/kube/metrics`, ""],
    );
    assert.ok(number(whole?.value) >= number(usage?.value));
    const streamed: string[] = [];
    for await (const { pod_sandbox_metrics } of agent.client.stream("StreamPodSandboxMetrics", {})) {
      streamed.push(...pod_sandbox_metrics.map(({ pod_sandbox_id }) => pod_sandbox_id ?? ""));
    }
    assert.deepEqual(
      streamed,
      pod_metrics.map(({ pod_sandbox_id }) => pod_sandbox_id),
    );
    // who has run may have set itself another limit
    const pid = await hostPidOf(agent, id);
    execFileSync("prlimit", ["--pid", String(pid), "--nofile=333:"]);
    await agent.client.call("ExecSync", { container_id: id, cmd: ["true"], timeout: long(20) });
    await sleep(200);
    const later = (await agent.client.call("ListPodSandboxMetrics", {})).pod_metrics;
    const same = later.find(({ pod_sandbox_id }) => pod_sandbox_id === pod.id)?.container_metrics?.[0];
    assert.equal(number(find(same?.metrics ?? [], "container_ulimits_soft")?.value), 333);
    await removePod(agent, pod);
  });

  it("are not held up by a frozen container", async (t) => {
    const pod = await podOfKubelet("frozen");
    const id = await runContainer(agent, pod);
    const freeze = freezer(await cgroupOf(id));
    if (freeze === undefined || !existsSync(freeze.file)) return t.skip("this host has no freezer");
    writeFileSync(freeze.file, freeze.frozen);
    try {
      const { stats } = await agent.client.call("ListContainerStats", { filter: { id } }, 10_000);
      assert.ok(number(stats[0]?.memory?.usage_bytes) > 0);
      assert.equal(
        (await agent.client.call("ListPodSandboxStats", { filter: { id: pod.id } }, 10_000)).stats.length,
        1,
      );
    } finally {
      writeFileSync(freeze.file, freeze.thawed);
    }
    await removePod(agent, pod);
  });

  it("go on while pods come and go, and hold nothing of those that have gone", async () => {
    let going = true;
    const asking = (async () => {
      for (let asked = 0; going || asked < 20; asked++) {
        await agent.client.call("ListContainerStats", {});
        await agent.client.call("ListPodSandboxStats", {});
        await sleep(15);
      }
    })();
    const gone: string[] = [];
    const churn = async (lane: number) => {
      for (let round = 0; round < 5; round++) {
        const pod = await podOfKubelet(`churn-${lane}-${round}`);
        await runContainer(agent, pod);
        await sleep(60);
        await removePod(agent, pod);
        gone.push(`churn-${lane}-${round}`);
      }
    };
    await Promise.all([0, 1, 2].map(churn));
    going = false;
    await asking;
    await sleep(120);
    await agent.client.call("ListContainerStats", {});
    const open = readdirSync(`/proc/${agent.pid}/fd`).map((fd) => linkOf(`/proc/${agent.pid}/fd/${fd}`));
    assert.equal(gone.length, 15);
    assert.deepEqual(
      open.filter((name) => gone.some((pod) => name.includes(`/kube/${pod}/`)) && name.includes("memory")),
      [],
    );
  });

  it("count the processes of cgroups that a container has made", async (t) => {
    const pod = await podOfKubelet("nested");
    const id = await runContainer(agent, pod, sh("sleep 1000 & echo up; wait"));
    await untilWritten(agent, id, "up");
    const path = await cgroupOf(id);
    const { threads } = toldByKernel(path);
    if (threads === undefined) return t.skip("this host counts no processes");
    // an exec has a cgroup of its own below the container's in the cgroup2 hierarchy
    if (unifiedDirectory(path) === undefined) return t.skip("this host has no cgroup2");
    const running = agent.client.call("ExecSync", { container_id: id, cmd: ["sleep", "1"], timeout: long(20) });
    // as it starts, the process that makes the exec's is in the cgroup, too
    let seen = Number.NaN;
    for (let tries = 0; tries < 200 && seen !== 3; tries++) {
      seen = number((await podStats(pod.id)).process?.process_count) - 1;
      await sleep(20);
    }
    await running;
    assert.equal(seen, 3);
    await removePod(agent, pod);
  });
});

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
