/** The CRI's rules for RunPodSandbox, and for the life of a pod. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import {
  fails,
  NamespaceMode,
  out,
  PodSandboxState,
  podConfig,
  podStatus,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";
import { leavesNothing, placeForRules, type Refusal, refused, refusedPods } from "./support.js";

const place = placeForRules();

type Context = runtime.v1.ILinuxSandboxSecurityContext;
const context = (security_context: Context): runtime.v1.IPodSandboxConfig => ({ linux: { security_context } });
const options = (namespace_options: runtime.v1.INamespaceOption) => context({ namespace_options });
const metadata = (more: runtime.v1.IPodSandboxMetadata) => ({
  metadata: { name: "p", namespace: "test", uid: "u", attempt: 0, ...more },
});
const port = (mapping: runtime.v1.IPortMapping) => ({ port_mappings: [{ container_port: 80, ...mapping }] });
const dns = (dns_config: runtime.v1.IDNSConfig) => ({ dns_config });

describe("a pod has a name", () => {
  const raw: Refusal<runtime.v1.IRunPodSandboxRequest>[] = [
    ["a request has a config", {}, "INVALID_ARGUMENT", /^config is missing/],
    ["a config has metadata", { config: {} }, "INVALID_ARGUMENT", /^config\.metadata is missing/],
    [
      "a runtime handler that is not known is refused",
      () => ({ config: podConfig(place.agent), runtime_handler: "nobody" }),
      "INVALID_ARGUMENT",
      /^runtime_handler: "nobody" is not known/,
    ],
  ];
  refused(place, raw, (request) => place.agent.client.call("RunPodSandbox", request));
  refusedPods(place, [
    ["its name is needed", metadata({ name: "" }), "INVALID_ARGUMENT", /^config\.metadata\.name is missing/],
    [
      "its namespace is needed",
      metadata({ namespace: "" }),
      "INVALID_ARGUMENT",
      /config\.metadata\.namespace is missing/,
    ],
    [
      "name, uid, namespace and attempt are one pod's",
      () => ({ metadata: place.pod.config.metadata ?? null }),
      "ALREADY_EXISTS",
      /^config\.metadata: pod sandbox [0-9a-f]{64} has this name, uid and attempt/,
    ],
  ]);

  test("another attempt is another pod; the empty handler and berth's own name are the same", async () => {
    const first = podConfig(place.agent);
    const second = { ...first, metadata: { ...first.metadata, attempt: 1 } };
    const ids: string[] = [];
    for (const [config, runtime_handler] of [
      [first, ""],
      [second, "berth"],
    ] as const) {
      ids.push((await place.agent.client.call("RunPodSandbox", { config, runtime_handler })).pod_sandbox_id);
    }
    assert.notEqual(ids[0], ids[1]);
    assert.equal((await podStatus(place.agent, ids[1] ?? "")).runtime_handler, "berth");
    for (const id of ids) await removePod(place.agent, { id, config: first });
  });
});

describe("host name, names, logs, cgroup", () => {
  refusedPods(place, [
    [
      "a host name has 64 bytes at most",
      { hostname: "h".repeat(65) },
      "INVALID_ARGUMENT",
      /^config\.hostname: "h{65}" is no hostname/,
    ],
    ["a host name has no line end", { hostname: "a\nb" }, "INVALID_ARGUMENT", /^config\.hostname/],
    ["a host name has no NUL", { hostname: "a\0b" }, "INVALID_ARGUMENT", /^config\.hostname/],
    ["a host name has no slash", { hostname: "../x" }, "INVALID_ARGUMENT", /^config\.hostname/],
    [
      "a log directory is absolute",
      { log_directory: "logs" },
      "INVALID_ARGUMENT",
      /^config\.log_directory: "logs" is not absolute/,
    ],
    [
      "a log directory's path has 4,095 bytes at most",
      { log_directory: `/${"a/".repeat(2048)}x` },
      "INVALID_ARGUMENT",
      /^config\.log_directory: the path is longer than 4095 bytes/,
    ],
    [
      "a log directory has no NUL",
      () => ({ log_directory: join(place.agent.paths.logs, "a\0b") }),
      "INVALID_ARGUMENT",
      /^config\.log_directory/,
    ],
    [
      "a log directory's names have 255 bytes at most",
      () => ({ log_directory: join(place.agent.paths.logs, "n".repeat(256)) }),
      "INVALID_ARGUMENT",
      /^config\.log_directory/,
    ],
    [
      "a log directory that is a file is none",
      () => ({ log_directory: join(place.agent.paths.base, "agent.log") }),
      "INVALID_ARGUMENT",
      /^config\.log_directory/,
    ],
    [
      "a log directory is where the kernel makes directories",
      { log_directory: "/proc/self/logs" },
      "INVALID_ARGUMENT",
      /^config\.log_directory: the directory \/proc\/self\/logs cannot be made: ENOENT/,
    ],
    [
      "a cgroup parent stays below the root",
      { linux: { cgroup_parent: "/../x" } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent: "\/\.\.\/x" is not a path/,
    ],
    [
      "a cgroup parent has no NUL",
      { linux: { cgroup_parent: "/a\0b" } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent/,
    ],
    [
      "a cgroup parent has no line end",
      { linux: { cgroup_parent: "/a\nb" } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent/,
    ],
    [
      "a cgroup parent's names have 255 bytes at most",
      { linux: { cgroup_parent: `/${"n".repeat(256)}` } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent/,
    ],
    [
      "a cgroup parent is no path of the host's",
      { linux: { cgroup_parent: "/sys/fs/cgroup/memory/x" } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent: "\/sys\/fs\/cgroup\/memory\/x" is a path of the host's files/,
    ],
    [
      "a cgroup parent is not named as a control file",
      { linux: { cgroup_parent: "/a/cgroup.procs" } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent: "\/a\/cgroup\.procs" has the name of a cgroup's control file/,
    ],
    [
      "a cgroup parent is no controller's file, either",
      { linux: { cgroup_parent: "memory.max/b" } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent: "memory\.max\/b" has the name/,
    ],
    [
      "a cgroup parent leaves room in a path",
      { linux: { cgroup_parent: "/n".repeat(2_000) } },
      "INVALID_ARGUMENT",
      /^config\.linux\.cgroup_parent has 4000 bytes; 3000 at most/,
    ],
    [
      "a systemd slice is not for this driver",
      { linux: { cgroup_parent: "/kubepods.slice" } },
      "INVALID_ARGUMENT",
      /cgroup_parent: "\/kubepods\.slice" is a systemd slice/,
    ],
  ]);

  test("without a host name a pod has the node's", async () => {
    const pod = await runPod(place.agent, { hostname: "" });
    const id = await runContainer(place.agent, pod);
    assert.equal(await out(place.agent, id, "hostname"), hostname());
    await removePod(place.agent, pod);
  });

  for (const [what, name] of [
    ["a host name of 64 bytes is one", "h".repeat(64)],
    ["a whole name may end with a dot", "web.shop.default.svc."],
  ] as const) {
    test(what, async () => {
      const pod = await runPod(place.agent, { hostname: name });
      assert.equal(await out(place.agent, await runContainer(place.agent, pod), "hostname"), name);
      await removePod(place.agent, pod);
    });
  }
});

describe("name servers", () => {
  refusedPods(place, [
    [
      "a server is an IP address",
      dns({ servers: ["10.0.0.10", "ns.example"] }),
      "INVALID_ARGUMENT",
      /^config\.dns_config\.servers\[1\]: "ns\.example" is no IP address/,
    ],
    [
      "a server is not two lines",
      dns({ servers: ["10.0.0.10\nsearch x"] }),
      "INVALID_ARGUMENT",
      /^config\.dns_config\.servers\[0\]/,
    ],
    [
      "a search domain is one word",
      dns({ searches: ["a b"] }),
      "INVALID_ARGUMENT",
      /^config\.dns_config\.searches\[0\]/,
    ],
    [
      "a search domain is not empty",
      dns({ searches: ["a", ""] }),
      "INVALID_ARGUMENT",
      /^config\.dns_config\.searches\[1\]/,
    ],
    [
      "an option is one word",
      dns({ options: ["ndots:5\nnameserver 1.1.1.1"] }),
      "INVALID_ARGUMENT",
      /^config\.dns_config\.options\[0\]/,
    ],
  ]);
});

describe("ports of the node", () => {
  refusedPods(place, [
    [
      "65535 is the last one",
      port({ host_port: 65536 }),
      "INVALID_ARGUMENT",
      /^config\.port_mappings\[0\]\.host_port: 65536 is not a port/,
    ],
    ["none is negative", port({ host_port: -1 }), "INVALID_ARGUMENT", /^config\.port_mappings\[0\]\.host_port: -1/],
    [
      "one leads to a port of the pod",
      port({ host_port: 40001, container_port: 0 }),
      "INVALID_ARGUMENT",
      /^config\.port_mappings\[0\]\.container_port: 0/,
    ],
    [
      "one leads to no port above 65535",
      port({ host_port: 40001, container_port: 70000 }),
      "INVALID_ARGUMENT",
      /^config\.port_mappings\[0\]\.container_port: 70000/,
    ],
    [
      "the protocol is TCP, UDP or SCTP",
      port({ protocol: 3 as never }),
      "INVALID_ARGUMENT",
      /^config\.port_mappings\[0\]\.protocol: 3 is no protocol/,
    ],
    [
      "the host's address is an IP address",
      { port_mappings: [{ container_port: 1 }, { container_port: 80, host_port: 40001, host_ip: "host" }] },
      "INVALID_ARGUMENT",
      /^config\.port_mappings\[1\]\.host_ip/,
    ],
    [
      "one is not mapped twice",
      {
        port_mappings: [
          { container_port: 80, host_port: 40001 },
          { container_port: 81, host_port: 40001 },
        ],
      },
      "INVALID_ARGUMENT",
      /^config\.port_mappings\[1\]: host port .* is mapped twice/,
    ],
  ]);

  test("0 asks for none", async () => {
    const pod = await runPod(place.agent, {
      port_mappings: [{ container_port: 80, host_port: 0 }, { container_port: 0 }],
    });
    assert.equal((await podStatus(place.agent, pod.id)).state, PodSandboxState.SANDBOX_READY);
    await removePod(place.agent, pod);
  });
});

describe("the namespaces of a pod", () => {
  refusedPods(place, [
    [
      "its network is its own or the node's",
      options({ network: NamespaceMode.CONTAINER }),
      "INVALID_ARGUMENT",
      /namespace_options\.network: .*not CONTAINER/,
    ],
    [
      "its network is no container's",
      options({ network: NamespaceMode.TARGET }),
      "INVALID_ARGUMENT",
      /namespace_options\.network: .*not TARGET/,
    ],
    [
      "its network has a mode that there is",
      options({ network: 9 as never }),
      "INVALID_ARGUMENT",
      /namespace_options\.network/,
    ],
    [
      "its IPC is its own or the node's",
      options({ ipc: NamespaceMode.CONTAINER }),
      "INVALID_ARGUMENT",
      /namespace_options\.ipc: .*not CONTAINER/,
    ],
    [
      "its IPC is no container's",
      options({ ipc: NamespaceMode.TARGET }),
      "INVALID_ARGUMENT",
      /namespace_options\.ipc: .*not TARGET/,
    ],
    [
      "its processes are no container's",
      options({ pid: NamespaceMode.TARGET, target_id: "x" }),
      "INVALID_ARGUMENT",
      /namespace_options\.pid: .*TARGET/,
    ],
    [
      "its processes have a mode that there is",
      options({ pid: 9 as never }),
      "INVALID_ARGUMENT",
      /namespace_options\.pid: .*not 9/,
    ],
  ]);

  test("a pod on the node's network has no address of its own", async () => {
    const pod = await runPod(place.agent, options({ network: NamespaceMode.NODE }));
    const { network, linux } = await podStatus(place.agent, pod.id);
    assert.deepEqual([network?.ip, network?.additional_ips], ["", []]);
    assert.equal(linux?.namespaces?.options?.network, NamespaceMode.NODE);
    await removePod(place.agent, pod);
  });
});

describe("what a pod's user may bring is told back unaltered", () => {
  test("labels and annotations, also strange ones", async () => {
    const odd = {
      "": "",
      "a\nb": "\n\u0000\u2028",
      __proto__x: "1",
      constructor: "2",
      ["x".repeat(253)]: "v".repeat(70_000),
      toString: "3",
    };
    const pod = await runPod(place.agent, { labels: odd, annotations: odd });
    const status = await podStatus(place.agent, pod.id);
    assert.deepEqual({ ...status.labels }, odd);
    assert.deepEqual({ ...status.annotations }, odd);
    const { items } = await place.agent.client.call("ListPodSandbox", { filter: { id: pod.id } });
    assert.deepEqual({ ...items[0]?.annotations }, odd);
    assert.ok(Number(String(status.created_at)) > 0 && Number(String(items[0]?.created_at)) > 0);
    await removePod(place.agent, pod);
  });
});

describe("the life of a pod", () => {
  const nobody: { pod_sandbox_id?: string } = { pod_sandbox_id: "f".repeat(64) };

  test("stop and remove of a pod that is not there succeed", async () => {
    await place.agent.client.call("StopPodSandbox", nobody);
    await place.agent.client.call("RemovePodSandbox", nobody);
  });

  refused(
    place,
    [
      ["the status of a pod that is not there is an error", nobody, "NOT_FOUND", /pod sandbox "f{64}" is not known/],
      ["a status is of a pod", {}, "INVALID_ARGUMENT", /^pod_sandbox_id is missing/],
    ],
    (request) => place.agent.client.call("PodSandboxStatus", request),
  );
  refused(place, [["a stop is of a pod", {}, "INVALID_ARGUMENT", /^pod_sandbox_id is missing/]], (request) =>
    place.agent.client.call("StopPodSandbox", request),
  );
  refused(place, [["a removal is of a pod", {}, "INVALID_ARGUMENT", /^pod_sandbox_id is missing/]], (request) =>
    place.agent.client.call("RemovePodSandbox", request),
  );
  refused(
    place,
    [
      ["new resources are a pod's that is there", nobody, "NOT_FOUND", /pod sandbox "f{64}" is not known/],
      ["new resources are a pod's", {}, "INVALID_ARGUMENT", /^pod_sandbox_id is missing/],
    ],
    (request) => place.agent.client.call("UpdatePodSandboxResources", request),
  );

  test("running containers are ended by the stop, gone with the removal; both can be repeated", async () => {
    await leavesNothing(place, async () => {
      const pod = await runPod(place.agent);
      const pod_sandbox_id = pod.id;
      const id = await runContainer(place.agent, pod, {
        command: ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
      });
      for (let times = 0; times < 2; times++) await place.agent.client.call("StopPodSandbox", { pod_sandbox_id });
      const { status } = await place.agent.client.call("ContainerStatus", { container_id: id });
      assert.equal(status?.exit_code, 137);
      assert.equal((await podStatus(place.agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);
      await fails(
        place.agent.client.call("UpdatePodSandboxResources", { pod_sandbox_id }),
        "FAILED_PRECONDITION",
        /is stopped/,
      );
      for (let times = 0; times < 2; times++) await place.agent.client.call("RemovePodSandbox", { pod_sandbox_id });
      // the logs are the kubelet's to remove
      rmSync(pod.config.log_directory ?? "", { recursive: true });
      await fails(place.agent.client.call("ContainerStatus", { container_id: id }), "NOT_FOUND", /container/);
    });
  });

  test("a removal ends what runs, and takes it away with the pod", async () => {
    await leavesNothing(place, async () => {
      const pod = await runPod(place.agent);
      assert.equal((await podStatus(place.agent, pod.id)).state, PodSandboxState.SANDBOX_READY);
      const container_id = await runContainer(place.agent, pod, {
        command: ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
      });
      await place.agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
      await fails(place.agent.client.call("ContainerStatus", { container_id }), "NOT_FOUND", /container/);
      await fails(
        place.agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id }),
        "NOT_FOUND",
        /pod sandbox "[0-9a-f]{64}" is not known/,
      );
      rmSync(pod.config.log_directory ?? "", { recursive: true });
    });
  });

  test("what is only for looking closer is told when it is asked for", async () => {
    const { info } = await place.agent.client.call("PodSandboxStatus", { pod_sandbox_id: place.pod.id });
    assert.deepEqual(info, {});
    const more = await place.agent.client.call("PodSandboxStatus", { pod_sandbox_id: place.pod.id, verbose: true });
    assert.ok(JSON.parse(more.info["info"] ?? ""));
  });

  test("a list's filters all hold", async () => {
    const pods = [
      await runPod(place.agent, { labels: { a: "1", b: "1" } }),
      await runPod(place.agent, { labels: { a: "1" } }),
    ];
    const listed = async (filter: runtime.v1.IPodSandboxFilter) =>
      (await place.agent.client.call("ListPodSandbox", { filter })).items.map(({ id }) => id).sort();
    const [one = "", two = ""] = pods.map(({ id }) => id);
    assert.deepEqual(await listed({ label_selector: { a: "1" } }), [one, two].sort());
    assert.deepEqual(await listed({ label_selector: { a: "1", b: "1" } }), [one]);
    assert.deepEqual(await listed({ id: two, label_selector: { b: "1" } }), []);
    assert.deepEqual(await listed({ id: one, state: { state: PodSandboxState.SANDBOX_NOTREADY } }), []);
    assert.deepEqual(await listed({ label_selector: { toString: "" } }), []);
    for (const pod of pods) await removePod(place.agent, pod);
  });
});
