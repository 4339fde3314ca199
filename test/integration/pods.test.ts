/** Pods through the CRI, against a real agent. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups, leftProcesses } from "../support/leaks.js";
import {
  ContainerState,
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  NamespaceMode,
  namespaceOf,
  out,
  PodSandboxState,
  podConfig,
  podStatus,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
  waitExited,
} from "../support/workload.js";

let agent: TestAgent;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
});

after(() => agent.stop());

async function removeAll(): Promise<void> {
  const { items } = await agent.client.call("ListPodSandbox", {});
  await Promise.all(items.map(({ id }) => removePod(agent, { id: id ?? "", config: {} })));
}

afterEach(async () => {
  await removeAll();
  await agent.assertNothingLeft();
});

describe("life", () => {
  test("a pod is ready with its address, its labels and annotations exactly, until it is stopped", async () => {
    const labels = { app: "web", "k8s.io/x": "" };
    const annotations = { "a/b": "ü\n=", empty: "" };
    const before = BigInt(Date.now()) * 1_000_000n;
    const pod = await runPod(agent, { labels, annotations });
    assert.match(pod.id, /^[0-9a-f]{64}$/);
    const ready = await podStatus(agent, pod.id);
    assert.equal(ready.state, PodSandboxState.SANDBOX_READY);
    assert.deepEqual(ready.labels, labels);
    assert.deepEqual(ready.annotations, annotations);
    assert.equal(ready.metadata?.name, pod.config.metadata?.name);
    assert.equal(ready.metadata?.uid, pod.config.metadata?.uid);
    assert.match(ready.network?.ip ?? "", new RegExp(`^10\\.244\\.${agent.slot.number}\\.\\d+$`));
    const created = BigInt(String(ready.created_at));
    assert.ok(created >= before && created <= BigInt(Date.now()) * 1_000_000n);

    await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
    assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);
    assert.deepEqual(leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }), []);
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
    await fails(agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id }), "NOT_FOUND", new RegExp(pod.id));
  });

  test("stop and remove are done twice, and for pods that never were", async () => {
    const pod = await runPod(agent);
    for (const pod_sandbox_id of [pod.id, pod.id, "f".repeat(64)]) {
      await agent.client.call("StopPodSandbox", { pod_sandbox_id });
    }
    for (const pod_sandbox_id of [pod.id, pod.id, "f".repeat(64)]) {
      await agent.client.call("RemovePodSandbox", { pod_sandbox_id });
    }
  });

  test("two calls for the same pod at once make one; a later one is refused", async () => {
    const config = podConfig(agent);
    const answers = await Promise.all([1, 2, 3].map(() => agent.client.call("RunPodSandbox", { config })));
    assert.equal(new Set(answers.map(({ pod_sandbox_id }) => pod_sandbox_id)).size, 1);
    await fails(agent.client.call("RunPodSandbox", { config }), "ALREADY_EXISTS", /config\.metadata/);
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
  });

  test("removing a running pod ends its containers and removes them", async () => {
    const pod = await runPod(agent);
    const id = await runContainer(agent, pod);
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
    await fails(agent.client.call("ContainerStatus", { container_id: id }), "NOT_FOUND", new RegExp(id));
  });

  test("twenty pods at once have different addresses", async () => {
    const pods = await Promise.all(Array.from({ length: 20 }, () => runPod(agent)));
    const addresses = await Promise.all(pods.map(async ({ id }) => (await podStatus(agent, id)).network?.ip));
    assert.equal(new Set(addresses).size, 20);
  });

  test("containers that are removed while their pod loses its monitor stay removed", async () => {
    for (let round = 0; round < 3; round++) {
      const pod = await runPod(agent);
      const ids = await Promise.all([1, 2, 3, 4].map(() => createContainer(agent, pod)));
      const { info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id, verbose: true });
      process.kill((JSON.parse(info["info"] ?? "{}") as { pid: number }).pid, "SIGKILL");
      await Promise.all(ids.map((container_id) => agent.client.call("RemoveContainer", { container_id })));
      await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
      const records = readdirSync(join(agent.paths.root, "state", "containers"));
      assert.deepEqual(
        records.filter((name) => ids.some((id) => name.startsWith(id))),
        [],
      );
      await removePod(agent, pod);
    }
  });

  for (const pid of [NamespaceMode.CONTAINER, NamespaceMode.POD, NamespaceMode.NODE]) {
    test(`a pod whose monitor is killed is not ready, and all of its containers' processes are dead: pid ${NamespaceMode[pid]}`, async () => {
      const linux = { security_context: { namespace_options: { pid } } };
      const pod = await runPod(agent, { linux });
      const command = ["sh", "-c", "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & sleep 1000') & sleep 1000"];
      const id = await runContainer(agent, pod, { command, linux });
      const ended = await runContainer(agent, pod, { command: ["sh", "-c", "exit 5"], linux });
      await waitExited(agent, ended);
      const scope = { run: agent.paths.run, cgroupRoot: agent.cgroupRoot };
      const monitor = leftProcesses(scope).find(({ what }) => what.includes("berth-monitor"));
      assert.ok(monitor);
      process.kill(monitor.pid, "SIGKILL");
      const { exit_code, reason, message } = await waitExited(agent, id, 10_000);
      assert.deepEqual([exit_code, reason, message], [137, "Error", "killed with its pod, whose monitor was lost"]);
      assert.equal((await containerStatus(agent, ended)).exit_code, 5);
      assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);
      assert.deepEqual(leftProcesses(scope), []);
      await removePod(agent, pod);
    });

    test(`its programs and execs end with it also while no agent runs: pid ${NamespaceMode[pid]}`, async () => {
      const linux = { security_context: { namespace_options: { pid }, run_as_user: { value: long(1000) } } };
      const pod = await runPod(agent, { linux });
      const id = await runContainer(agent, pod, { command: ["sleep", "1000"], linux });
      const running = exec(agent, id, ["sleep", "1001"]).catch(() => undefined);
      const scope = { run: agent.paths.run, cgroupRoot: agent.cgroupRoot };
      const sleeping = () => leftProcesses(scope).filter(({ what }) => /sleep 100[01]/.test(what));
      for (let tries = 0; sleeping().length < 2; tries++) {
        assert.ok(tries < 500);
        await sleep(20);
      }
      const monitor = leftProcesses(scope).find(({ what }) => what.includes("berth-monitor"));
      // the kernel takes the death signal from who gets another label by execve; then only the next agent ends them
      const relabelled = sleeping().some((process) => labelOf(process.pid) !== labelOf("self"));
      await agent.kill9();
      await running;
      process.kill(monitor?.pid ?? 0, "SIGKILL");
      if (pid === NamespaceMode.NODE && relabelled) await agent.restart();
      for (let tries = 0; sleeping().length > 0; tries++) {
        assert.ok(tries < 500, JSON.stringify(sleeping()));
        await sleep(20);
      }
      if (!agent.isAlive()) await agent.restart();
      assert.equal((await containerStatus(agent, id)).exit_code, 137);
      await removePod(agent, pod);
    });
  }
});

/** AppArmor's or SELinux's; empty where there is neither. */
function labelOf(process: number | "self"): string {
  try {
    return readFileSync(`/proc/${process}/attr/current`, "utf8");
  } catch {
    return "";
  }
}

describe("lists", () => {
  test("pods are found by unique prefix; an ambiguous one is refused", async () => {
    const pods: RunningPod[] = [];
    // sixteen digits: of seventeen pods two begin alike
    for (let count = 0; count < 17; count++) pods.push(await runPod(agent));
    const twin = pods.find(({ id }, index) => pods.findIndex((other) => other.id[0] === id[0]) < index);
    await fails(
      agent.client.call("PodSandboxStatus", { pod_sandbox_id: twin?.id[0] ?? "" }),
      "INVALID_ARGUMENT",
      /pod/,
    );
    const { status: found } = await agent.client.call("PodSandboxStatus", {
      pod_sandbox_id: pods[3]?.id.slice(0, 20) ?? "",
    });
    assert.equal(found?.id, pods[3]?.id);
  });

  test("every filter", async () => {
    const one = await runPod(agent, { labels: { app: "a", tier: "x" } });
    const two = await runPod(agent, { labels: { app: "a" } });
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: two.id });
    const list = async (filter: object) =>
      (await agent.client.call("ListPodSandbox", { filter })).items.map(({ id }) => id).sort();
    assert.deepEqual(await list({}), [one.id, two.id].sort());
    assert.deepEqual(await list({ id: one.id }), [one.id]);
    assert.deepEqual(await list({ id: one.id.slice(0, 16) }), [one.id]);
    assert.deepEqual(await list({ id: "nothing" }), []);
    assert.deepEqual(await list({ state: { state: PodSandboxState.SANDBOX_NOTREADY } }), [two.id]);
    assert.deepEqual(await list({ state: { state: PodSandboxState.SANDBOX_READY } }), [one.id]);
    assert.deepEqual(await list({ label_selector: { app: "a" } }), [one.id, two.id].sort());
    assert.deepEqual(await list({ label_selector: { app: "a", tier: "x" } }), [one.id]);
    assert.deepEqual(await list({ label_selector: { tier: "y" } }), []);
    assert.deepEqual(await list({ id: two.id, state: { state: PodSandboxState.SANDBOX_READY } }), []);
  });
});

describe("namespaces", () => {
  test("containers of a pod share net, IPC and UTS, and have PID and mount namespaces of their own", async () => {
    const pod = await runPod(agent);
    const [one, two] = [await runContainer(agent, pod), await runContainer(agent, pod)];
    for (const name of ["net", "ipc", "uts"]) {
      const inode = await namespaceOf(agent, one, name);
      assert.equal(await namespaceOf(agent, two, name), inode);
      assert.notEqual(readlinkSync(`/proc/self/ns/${name}`), inode);
    }
    for (const name of ["pid", "mnt", "cgroup"]) {
      assert.notEqual(await namespaceOf(agent, one, name), await namespaceOf(agent, two, name), name);
    }
    assert.match(await out(agent, one, "tr '\\0' ' ' < /proc/1/cmdline"), /^sleep 1000/);
  });

  test("the network namespace is pinned where `ip netns` and CNI look", async () => {
    const pod = await runPod(agent);
    assert.ok(existsSync(join(agent.paths.netns, `berth-${pod.id}`)));
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
    assert.ok(!existsSync(join(agent.paths.netns, `berth-${pod.id}`)));
  });

  test("host network: the host's namespace and names, no address of its own", async () => {
    const options = { network: NamespaceMode.NODE };
    const pod = await runPod(agent, { hostname: "", linux: { security_context: { namespace_options: options } } });
    const id = await runContainer(agent, pod, {
      linux: { security_context: { namespace_options: options } },
    });
    assert.equal(await namespaceOf(agent, id, "net"), readlinkSync("/proc/self/ns/net"));
    assert.equal(await out(agent, id, ["cat", "/etc/hosts"]), readFileSync("/etc/hosts", "utf8").trimEnd());
    assert.equal((await podStatus(agent, pod.id)).network?.ip, "");
    assert.equal((await podStatus(agent, pod.id)).linux?.namespaces?.options?.network, NamespaceMode.NODE);
  });

  test("host PID and host IPC", async () => {
    const namespace_options = { pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE };
    const linux = { security_context: { namespace_options } };
    const pod = await runPod(agent, { linux });
    const id = await runContainer(agent, pod, { linux });
    assert.equal(await namespaceOf(agent, id, "pid"), readlinkSync("/proc/self/ns/pid"));
    assert.equal(await namespaceOf(agent, id, "ipc"), readlinkSync("/proc/self/ns/ipc"));
    assert.ok((await out(agent, id, ["ls", "/proc"])).split("\n").includes(String(process.pid)));
    await removePod(agent, pod);
  });

  test("a pod-wide PID namespace: containers see each other", async () => {
    const namespace_options = { pid: NamespaceMode.POD };
    const linux = { security_context: { namespace_options } };
    const pod = await runPod(agent, { linux });
    const one = await runContainer(agent, pod, { command: ["sleep", "1001"], linux });
    const two = await runContainer(agent, pod, { command: ["sleep", "1002"], linux });
    assert.equal(await namespaceOf(agent, one, "pid"), await namespaceOf(agent, two, "pid"));
    assert.match(await out(agent, one, ["ps"]), /sleep 1002/);
  });

  test("a pod-wide PID namespace: its init reaps what others leave, and a stop takes all of a container", async () => {
    const linux = { security_context: { namespace_options: { pid: NamespaceMode.POD } } };
    const pod = await runPod(agent, { linux });
    const watcher = await runContainer(agent, pod, { linux });
    const leaves = "(setsid sleep 1003 &); (setsid true &); exec sleep 1004";
    const leaving = await runContainer(agent, pod, { ...sh(leaves), linux });
    await out(agent, watcher, "for i in 1 2 3 4 5 6 7 8 9; do (setsid sleep 0.1 &); done");
    const states = "cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*(\\(.*\\)) \\(.\\) \\([0-9]*\\) .*/\\1 \\2 \\3/'";
    let found = "";
    // what has lost its parent is the init's: only the one that runs is left of those
    const isReaped = () => !/^\S+ Z/m.test(found) && found.match(/^sleep \S 1$/gm)?.length === 1;
    for (const until = Date.now() + 20_000; !isReaped(); await sleep(50)) {
      assert.ok(Date.now() < until, found);
      found = await out(agent, watcher, states);
    }
    await agent.client.call("StopContainer", { container_id: leaving, timeout: long(0) });
    assert.doesNotMatch(await out(agent, watcher, ["ps"]), /sleep 100[34]/);
    await removePod(agent, pod);
  });

  test("the hostname is the pod's, and changing it inside leaves the host's alone", async () => {
    const pod = await runPod(agent, { hostname: "a-name" });
    const id = await runContainer(agent, pod);
    assert.equal(await out(agent, id, ["hostname"]), "a-name");
    assert.equal(await out(agent, id, ["cat", "/etc/hostname"]), "a-name");
    assert.match(await out(agent, id, ["cat", "/etc/hosts"]), /a-name/);
    assert.notEqual(readFileSync("/proc/sys/kernel/hostname", "utf8").trim(), "a-name");
  });

  test("/dev/shm is shared within a pod, 64 MiB, and not with others", async () => {
    const [pod, other] = [await runPod(agent), await runPod(agent)];
    const [one, two, three] = await Promise.all([pod, pod, other].map((of) => runContainer(agent, of)));
    await out(agent, one ?? "", "echo hello > /dev/shm/x");
    assert.equal(await out(agent, two ?? "", ["cat", "/dev/shm/x"]), "hello");
    assert.equal((await exec(agent, three ?? "", ["cat", "/dev/shm/x"])).exitCode, 1);
    assert.match(await out(agent, one ?? "", ["df", "-k", "/dev/shm"]), /\b65536\b/);
  });
});

describe("settings", () => {
  test("sysctls: the defaults, and those of the request", async () => {
    const pod = await runPod(agent, {
      linux: { sysctls: { "net.ipv4.tcp_syn_retries": "3", "kernel.shm_rmid_forced": "1" } },
    });
    const id = await runContainer(agent, pod);
    const read = (name: string) => out(agent, id, ["cat", `/proc/sys/${name}`]);
    assert.equal(await read("net/ipv4/ip_unprivileged_port_start"), "0");
    assert.equal(await read("net/ipv4/ping_group_range"), "0\t2147483647");
    assert.equal(await read("net/ipv4/tcp_syn_retries"), "3");
    assert.equal(await read("kernel/shm_rmid_forced"), "1");
    assert.equal(readFileSync("/proc/sys/kernel/shm_rmid_forced", "utf8").trim(), "0");
  });

  test("resolv.conf is made from the DNS config; without one it is the host's", async () => {
    const dns_config = {
      servers: ["10.0.0.10", "fd00::10"],
      searches: ["a.local", "b"],
      options: ["ndots:5", "edns0"],
    };
    const id = await runContainer(agent, await runPod(agent, { dns_config }));
    assert.equal(
      await out(agent, id, ["cat", "/etc/resolv.conf"]),
      "search a.local b\nnameserver 10.0.0.10\nnameserver fd00::10\noptions ndots:5 edns0",
    );
    const plain = await runContainer(agent, await runPod(agent));
    assert.equal(
      await out(agent, plain, ["cat", "/etc/resolv.conf"]),
      readFileSync("/etc/resolv.conf", "utf8").trimEnd(),
    );
  });

  test("a mount of the request wins over the files that are made", async () => {
    const hosts = join(agent.paths.base, "hosts");
    writeFileSync(hosts, "10.0.0.1 somewhere\n");
    const id = await runContainer(agent, await runPod(agent), {
      mounts: [{ container_path: "/etc/hosts", host_path: hosts }],
    });
    assert.equal(await out(agent, id, ["cat", "/etc/hosts"]), "10.0.0.1 somewhere");
  });

  test("the cgroup parent is honoured, and goes with the last pod when it was made for it", async () => {
    const parent = `${agent.cgroupRoot}/kubepods/burstable/pod-x`;
    const pods = await Promise.all([1, 2].map(() => runPod(agent, { linux: { cgroup_parent: parent } })));
    const id = await runContainer(agent, pods[0] as RunningPod);
    const made = leftCgroups(`${parent}/${id}`);
    assert.ok(made.length > 0);
    const members = made.map((path) => readFileSync(join(path, "cgroup.procs"), "utf8").trim());
    assert.ok(
      members.every((list) => list !== ""),
      "the container is in each of its cgroups",
    );
    for (const pod of pods) await removePod(agent, pod);
    assert.deepEqual(leftCgroups(agent.cgroupRoot), []);
  });

  test("host ports of two pods do not meet; the error names the pod that has the port", async () => {
    const port_mappings = [{ protocol: 0, container_port: 80, host_port: 30500 + agent.slot.number, host_ip: "" }];
    const holder = await runPod(agent, { port_mappings });
    const id = await runContainer(agent, holder, {
      command: ["sh", "-c", "echo hi > /tmp/index.html; httpd -f -p 80 -h /tmp"],
    });
    assert.equal((await containerStatus(agent, id)).state, ContainerState.CONTAINER_RUNNING);
    const url = `http://127.0.0.1:${30500 + agent.slot.number}/index.html`;
    let text = "";
    for (let tries = 0; tries < 100 && text === ""; tries++) {
      text = await fetch(url).then(
        (answer) => answer.text(),
        () => "",
      );
    }
    assert.equal(text, "hi\n");
    await fails(runPod(agent, { port_mappings }), "FAILED_PRECONDITION", new RegExp(`host port tcp/.*${holder.id}`));
  });

  test("a pod reaches another, and the node's pod CIDR can be changed", async () => {
    const pod = await runPod(agent);
    const server = await runContainer(agent, pod, {
      command: ["sh", "-c", "echo page > /tmp/index.html; httpd -f -p 80 -h /tmp"],
    });
    assert.ok(server);
    const cidr = `10.246.${agent.slot.number}.0/24`;
    await agent.client.call("UpdateRuntimeConfig", { runtime_config: { network_config: { pod_cidr: cidr } } });
    const other = await runPod(agent);
    assert.match((await podStatus(agent, other.id)).network?.ip ?? "", /^10\.246\./);
    const client = await runContainer(agent, other);
    const { ip } = (await podStatus(agent, pod.id)).network ?? {};
    assert.equal(await out(agent, client, `until wget -q -O - http://${ip}/index.html; do usleep 20000; done`), "page");
    await agent.client.call("UpdateRuntimeConfig", {
      runtime_config: { network_config: { pod_cidr: agent.slot.subnet } },
    });
  });
});

describe("bad input leaves nothing", () => {
  const security = (namespace_options: object) => ({ linux: { security_context: { namespace_options } } });
  const bad: [name: string, more: object, sentence: RegExp][] = [
    ["no metadata", { metadata: null }, /config\.metadata is missing/],
    ["no name", { metadata: { namespace: "n", uid: "u" } }, /config\.metadata\.name is missing/],
    ["no namespace", { metadata: { name: "n", uid: "u" } }, /config\.metadata\.namespace is missing/],
    ["a sysctl of the host", { linux: { sysctls: { "kernel.core_pattern": "x" } } }, /kernel\.core_pattern/],
    ["a sysctl with a second one", { linux: { sysctls: { "kernel.shm_rmid_forced": "1+x=y" } } }, /shm_rmid_forced/],
    [
      "a net sysctl with host network",
      { linux: { sysctls: { "net.ipv4.ip_forward": "1" }, ...security({ network: 2 }).linux } },
      /net\.ipv4\.ip_forward/,
    ],
    [
      "a sysctl that is not there",
      { linux: { sysctls: { "net.ipv4.no_such_thing": "1" } } },
      /net[./]ipv4[./]no_such_thing/,
    ],
    ["a network mode that is none", security({ network: 1 }), /network/],
    ["a host port out of range", { port_mappings: [{ container_port: 80, host_port: 70000 }] }, /host_port/],
    [
      "a host address that is none",
      { port_mappings: [{ container_port: 80, host_port: 80, host_ip: "x" }] },
      /host_ip/,
    ],
    ["a name of a host that is too long", { hostname: "x".repeat(65) }, /hostname/],
    ["a cgroup parent that climbs", { linux: { cgroup_parent: "/a/../../b" } }, /cgroup_parent/],
    ["a log directory that is not absolute", { log_directory: "logs/x" }, /log_directory/],
  ];
  for (const [name, more, sentence] of bad) {
    test(name, async () => {
      const config = { ...podConfig(agent), ...more } as Parameters<typeof podConfig>[1];
      await fails(agent.client.call("RunPodSandbox", { config: config ?? {} }), "INVALID_ARGUMENT", sentence);
      assert.deepEqual((await agent.client.call("ListPodSandbox", {})).items, []);
    });
  }

  test("no config, no handler of that name, no id", async () => {
    await fails(agent.client.call("RunPodSandbox", {}), "INVALID_ARGUMENT", /config is missing/);
    const question = { config: podConfig(agent), runtime_handler: "kata" };
    await fails(agent.client.call("RunPodSandbox", question), "INVALID_ARGUMENT", /runtime_handler.*kata/);
    for (const name of ["StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus"] as const) {
      await fails(agent.client.call(name, {}), "INVALID_ARGUMENT", /pod_sandbox_id is missing/);
    }
  });
});
