/** The CRI's rules for CreateContainer: what runs, where, and in which namespaces. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import {
  busyboxName,
  containerConfig,
  containerStatus,
  createContainer,
  fails,
  importBusybox,
  NamespaceMode,
  out,
  type RunningPod,
  runContainer,
  runPod,
  Signal,
} from "../support/workload.js";
import { leavesNothing, placeForRules, type Refusal, refused, refusedContainers } from "./support.js";

const place = placeForRules(({ agent }) => importBusybox(agent, "berth.test/nothing:1", { config: { Cmd: [] } }));

type Context = runtime.v1.ILinuxContainerSecurityContext;
const context = (security_context: Context): runtime.v1.IContainerConfig => ({ linux: { security_context } });
const options = (namespace_options: runtime.v1.INamespaceOption) => context({ namespace_options });
const bytes = (text: string) => Buffer.from(text);

describe("a container has a pod, a name and an image", () => {
  const raw: Refusal<runtime.v1.ICreateContainerRequest>[] = [
    ["a pod is needed", { config: containerConfig() }, "INVALID_ARGUMENT", /^pod_sandbox_id is missing/],
    [
      "the pod is there",
      { config: containerConfig(), pod_sandbox_id: "f".repeat(64) },
      "NOT_FOUND",
      /pod sandbox "f{64}" is not known/,
    ],
    ["a config is needed", () => ({ pod_sandbox_id: place.pod.id }), "INVALID_ARGUMENT", /^config is missing/],
  ];
  refused(place, raw, (request) => place.agent.client.call("CreateContainer", request));
  refusedContainers(place, [
    ["metadata is needed", { metadata: null }, "INVALID_ARGUMENT", /^config\.metadata is missing/],
    ["its name is needed", { metadata: { attempt: 1 } }, "INVALID_ARGUMENT", /^config\.metadata\.name is missing/],
    ["an image is needed", { image: null }, "INVALID_ARGUMENT", /^config\.image is missing/],
    ["the image has a name", { image: { image: "" } }, "INVALID_ARGUMENT", /^config\.image\.image is missing/],
    [
      "the image is here",
      { image: { image: "berth.test/none:1" } },
      "NOT_FOUND",
      /^config\.image: image "berth\.test\/none:1" is not on this node/,
    ],
    [
      "name and attempt are one container's",
      async () => {
        const metadata = { name: "twin", attempt: 3 };
        await createContainer(place.agent, place.pod, { metadata });
        return { metadata };
      },
      "ALREADY_EXISTS",
      /^config\.metadata: container [0-9a-f]{64} has this name and attempt/,
    ],
  ]);

  test("a pod that is stopped takes no container", async () => {
    const pod = await runPod(place.agent);
    await place.agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
    await leavesNothing(place, () =>
      fails(createContainer(place.agent, pod), "FAILED_PRECONDITION", /pod sandbox [0-9a-f]+ is stopped/),
    );
    await place.agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
  });

  test("labels and annotations are told back unaltered", async () => {
    const odd = { "": "", "a\nb": "\n\u0000\u2028", constructor: "2", ["x".repeat(253)]: "v".repeat(70_000) };
    const id = await createContainer(place.agent, place.pod, { labels: odd, annotations: odd });
    const status = await containerStatus(place.agent, id);
    assert.deepEqual([{ ...status.labels }, { ...status.annotations }], [odd, odd]);
    const { containers } = await place.agent.client.call("ListContainers", { filter: { id } });
    assert.deepEqual({ ...containers[0]?.annotations }, odd);
    assert.ok(Number(String(status.created_at)) > 0);
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });
});

describe("what runs", () => {
  refusedContainers(place, [
    [
      "there is something to run",
      { command: [], image: { image: "berth.test/nothing:1" } },
      "INVALID_ARGUMENT",
      /^config\.command: there is nothing to run/,
    ],
    [
      "the program has a name",
      { command: [""] },
      "INVALID_ARGUMENT",
      /^config\.command: the name of the program to run is empty/,
    ],
    [
      "the program's name has no NUL",
      { command: ["a\0b"] },
      "INVALID_ARGUMENT",
      /^config\.command\[0\]: it holds a NUL/,
    ],
    ["an argument has no NUL", { args: ["fine", "a\0b"] }, "INVALID_ARGUMENT", /^config\.args\[1\]: it holds a NUL/],
    [
      "a variable has a name",
      { envs: [{ key: "", value: bytes("x") }] },
      "INVALID_ARGUMENT",
      /^config\.envs\[0\]\.key/,
    ],
    [
      "a variable's name has no =",
      { envs: [{ key: "A" }, { key: "A=B" }] },
      "INVALID_ARGUMENT",
      /^config\.envs\[1\]\.key: "A=B"/,
    ],
    ["a variable's name has no NUL", { envs: [{ key: "A\0" }] }, "INVALID_ARGUMENT", /^config\.envs\[0\]\.key/],
    [
      "a variable's value has no NUL",
      { envs: [{ key: "A", value: bytes("a\0b") }] },
      "INVALID_ARGUMENT",
      /^config\.envs\[0\]\.value \(of A\): it holds a NUL/,
    ],
    [
      "a working directory is absolute",
      { working_dir: "tmp" },
      "INVALID_ARGUMENT",
      /^config\.working_dir: "tmp" is not absolute/,
    ],
    ["a working directory has no NUL", { working_dir: "/a\0" }, "INVALID_ARGUMENT", /^config\.working_dir/],
    ["a stop signal is one", { stop_signal: 66 as never }, "INVALID_ARGUMENT", /^config\.stop_signal: 66 is no signal/],
    ["a stop signal is not negative", { stop_signal: -1 as never }, "INVALID_ARGUMENT", /^config\.stop_signal: -1/],
    [
      "a log stays in its directory",
      { log_path: "../x.log" },
      "INVALID_ARGUMENT",
      /^config\.log_path: "\.\.\/x\.log" does not stay/,
    ],
    ["a log is not elsewhere", { log_path: "/x.log" }, "INVALID_ARGUMENT", /^config\.log_path/],
    ["a log has no NUL", { log_path: "a\0b" }, "INVALID_ARGUMENT", /^config\.log_path/],
    [
      "a log's path has 4,095 bytes at most",
      { log_path: `${"a/".repeat(2048)}x` },
      "INVALID_ARGUMENT",
      /^config\.log_path: .* too long/,
    ],
    ["a log is a file", { log_path: "." }, "INVALID_ARGUMENT", /^config\.log_path/],
    [
      "a log's name has 255 bytes at most",
      { log_path: "n".repeat(256) },
      "INVALID_ARGUMENT",
      /^config\.log_path: .* too long/,
    ],
  ]);

  test("a working directory is a directory: told by StartContainer", async () => {
    const id = await createContainer(place.agent, place.pod, { working_dir: "/bin/busybox" });
    await fails(
      place.agent.client.call("StartContainer", { container_id: id }),
      "INVALID_ARGUMENT",
      /^config\.working_dir: .*"\/bin\/busybox": ENOTDIR/,
    );
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });

  test("the program is there: told by StartContainer, which names what said it", async () => {
    const cases: [runtime.v1.IContainerConfig, string][] = [
      [{ command: ["/no/such"] }, "config.command"],
      [{ command: [], args: ["no-such"], image: { image: "berth.test/nothing:1" } }, "config.args"],
    ];
    for (const [config, field] of cases) {
      const container_id = await createContainer(place.agent, place.pod, config);
      const start = place.agent.client.call("StartContainer", { container_id });
      await fails(start, "INVALID_ARGUMENT", new RegExp(`^${field}: .*no.such": ENOENT`));
      const { exit_code, reason, message } = await containerStatus(place.agent, container_id);
      assert.deepEqual([exit_code, reason], [128, "StartError"]);
      assert.match(message ?? "", new RegExp(`^${field}: `));
      await place.agent.client.call("RemoveContainer", { container_id });
    }
  });

  test("what is asked of the stop signal is told: nothing said is SIGTERM", async () => {
    const id = await createContainer(place.agent, place.pod);
    assert.equal((await containerStatus(place.agent, id)).stop_signal, Signal.SIGNAL_SIGTERM);
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });
});

describe("namespaces", () => {
  let pods: Record<"shared" | "other", RunningPod>;
  const target = async (pid: number, pod: RunningPod = place.pod) => {
    const target_id = await runContainer(place.agent, pod, options({ pid }));
    return options({ pid: NamespaceMode.TARGET, target_id });
  };
  refusedContainers(place, [
    [
      "NODE's processes are for pods that have them",
      options({ pid: NamespaceMode.NODE }),
      "INVALID_ARGUMENT",
      /namespace_options\.pid: NODE is for containers of pods/,
    ],
    [
      "NODE's network is for pods that have it",
      options({ network: NamespaceMode.NODE }),
      "INVALID_ARGUMENT",
      /namespace_options\.network: NODE is for containers of pods/,
    ],
    [
      "NODE's IPC is for pods that have it",
      options({ ipc: NamespaceMode.NODE }),
      "INVALID_ARGUMENT",
      /namespace_options\.ipc: NODE is for containers of pods/,
    ],
    [
      "a network is not a container's own",
      options({ network: NamespaceMode.CONTAINER }),
      "UNIMPLEMENTED",
      /namespace_options\.network: a container always has its pod's, not CONTAINER/,
    ],
    [
      "an IPC namespace is not a container's own",
      options({ ipc: NamespaceMode.TARGET, target_id: "x" }),
      "UNIMPLEMENTED",
      /namespace_options\.ipc: a container always has its pod's, not TARGET/,
    ],
    [
      "a mode is one that there is",
      options({ pid: 8 as never }),
      "INVALID_ARGUMENT",
      /namespace_options\.pid: 8 is no NamespaceMode/,
    ],
    [
      "TARGET names a container",
      options({ pid: NamespaceMode.TARGET }),
      "INVALID_ARGUMENT",
      /namespace_options\.target_id: TARGET needs a container's id/,
    ],
    [
      "TARGET's container is there",
      options({ pid: NamespaceMode.TARGET, target_id: "e".repeat(64) }),
      "NOT_FOUND",
      /namespace_options\.target_id: container "e{64}" is not known/,
    ],
    [
      "TARGET's container is of this pod",
      async () => {
        pods = { shared: await runPod(place.agent), other: await runPod(place.agent) };
        return target(NamespaceMode.CONTAINER, pods.other);
      },
      "INVALID_ARGUMENT",
      /namespace_options\.target_id: container [0-9a-f]+ is not of this pod/,
    ],
    [
      "TARGET's container has processes of its own",
      () => target(NamespaceMode.POD),
      "INVALID_ARGUMENT",
      /namespace_options\.target_id: container [0-9a-f]+ has no PID namespace of its own/,
    ],
    [
      "TARGET's container runs",
      async () => {
        const ended = await target(NamespaceMode.CONTAINER);
        const container_id = ended.linux?.security_context?.namespace_options?.target_id ?? null;
        await place.agent.client.call("StopContainer", { container_id });
        return ended;
      },
      "FAILED_PRECONDITION",
      /[0-9a-f]{64}/,
    ],
  ]);

  test("TARGET's container still runs at the start", async () => {
    const config = await target(NamespaceMode.CONTAINER);
    const container_id = await createContainer(place.agent, place.pod, config);
    const target_id = config.linux?.security_context?.namespace_options?.target_id ?? null;
    await place.agent.client.call("StopContainer", { container_id: target_id });
    await fails(
      place.agent.client.call("StartContainer", { container_id }),
      "FAILED_PRECONDITION",
      /container [0-9a-f]+ has ended before it was started: .*what it shares its processes with has ended/,
    );
    await place.agent.client.call("RemoveContainer", { container_id });
  });
});

describe("the pod is what it was made as, whatever a container's request says of it", () => {
  refused<runtime.v1.ICreateContainerRequest>(
    place,
    [
      [
        "the node's processes",
        () => ({
          pod_sandbox_id: place.pod.id,
          config: containerConfig(options({ pid: NamespaceMode.NODE })),
          sandbox_config: {
            ...place.pod.config,
            linux: { security_context: { namespace_options: { pid: NamespaceMode.NODE } } },
          },
        }),
        "INVALID_ARGUMENT",
        /namespace_options\.pid: NODE is for containers of pods/,
      ],
    ],
    (request) => place.agent.client.call("CreateContainer", request),
  );

  test("but a privileged debug container comes to a pod that was made without", async () => {
    const sandbox_config = { ...place.pod.config, linux: { security_context: { privileged: true } } };
    const config = containerConfig(context({ privileged: true }));
    const { container_id } = await place.agent.client.call("CreateContainer", {
      pod_sandbox_id: place.pod.id,
      config,
      sandbox_config,
    });
    await place.agent.client.call("StartContainer", { container_id });
    await out(place.agent, container_id, "mount -t tmpfs none /tmp");
  });
});

test("the image of a container is told by the id that the image has everywhere", async () => {
  const { image } = await place.agent.client.call("ImageStatus", { image: { image: busyboxName } });
  const id = await createContainer(place.agent, place.pod);
  assert.equal((await containerStatus(place.agent, id)).image_id, image?.id);
  const { containers } = await place.agent.client.call("ListContainers", { filter: { id } });
  assert.equal(containers[0]?.image_id, image?.id);
  await place.agent.client.call("RemoveContainer", { container_id: id });
});
