/** The CRI's rules for CreateContainer: who runs what, where, in which namespaces, and how it is confined. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import {
  busyboxName,
  containerConfig,
  containerStatus,
  createContainer,
  fails,
  importBusybox,
  long,
  NamespaceMode,
  out,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  Signal,
  sh,
} from "../support/workload.js";
import { leavesNothing, placeForRules, type Refusal, refused, refusedContainers } from "./support.js";

let profile = "";
const place = placeForRules(async ({ agent }) => {
  await importBusybox(agent, "berth.test/nothing:1", { config: { Cmd: [] } });
  profile = join(agent.paths.base, "profile.json");
  writeFileSync(profile, "{");
  mkdirSync(join(agent.paths.base, "directory"));
});

type Context = runtime.v1.ILinuxContainerSecurityContext;
const context = (security_context: Context): runtime.v1.IContainerConfig => ({ linux: { security_context } });
const options = (namespace_options: runtime.v1.INamespaceOption) => context({ namespace_options });
const value = (number: number) => ({ value: long(number) });
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
      /"\/bin\/busybox": ENOTDIR/,
    );
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });

  test("what is asked of the stop signal is told: nothing said is SIGTERM", async () => {
    const id = await createContainer(place.agent, place.pod);
    assert.equal((await containerStatus(place.agent, id)).stop_signal, Signal.SIGNAL_SIGTERM);
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });
});

describe("who runs it", () => {
  refusedContainers(place, [
    [
      "a user is given once",
      context({ run_as_user: value(1), run_as_username: "app" }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.run_as_username: run_as_user is set, too/,
    ],
    [
      "a group needs a user",
      context({ run_as_group: value(1) }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.run_as_group: it needs run_as_user or run_as_username/,
    ],
    [
      "a name is in the image",
      context({ run_as_username: "nobody-here" }),
      "INVALID_ARGUMENT",
      /run_as_username: there is no user "nobody-here" in the container's \/etc\/passwd/,
    ],
    [
      "a name that is a number is in the image",
      context({ run_as_username: "4242" }),
      "INVALID_ARGUMENT",
      /run_as_username: there is no user 4242/,
    ],
    ["a name of two lines is none", context({ run_as_username: "root\nx" }), "INVALID_ARGUMENT", /run_as_username/],
    [
      "a user is not negative",
      context({ run_as_user: value(-1) }),
      "INVALID_ARGUMENT",
      /run_as_user: -1 is not within/,
    ],
    [
      "a user is below 2^32 - 1",
      context({ run_as_user: value(4294967295) }),
      "INVALID_ARGUMENT",
      /run_as_user: 4294967295 is not within/,
    ],
    [
      "a user does not wrap around",
      context({ run_as_user: value(4294967296) }),
      "INVALID_ARGUMENT",
      /run_as_user: 4294967296/,
    ],
    [
      "a group is not negative",
      context({ run_as_user: value(1), run_as_group: value(-1) }),
      "INVALID_ARGUMENT",
      /run_as_group: -1/,
    ],
    [
      "a group is below 2^32 - 1",
      context({ run_as_user: value(1), run_as_group: value(4294967295) }),
      "INVALID_ARGUMENT",
      /run_as_group: 4294967295/,
    ],
    [
      "a supplemental group is not negative",
      context({ supplemental_groups: [long(5), long(-1)] }),
      "INVALID_ARGUMENT",
      /supplemental_groups\[1\]: -1/,
    ],
    [
      "a supplemental group is below 2^32 - 1",
      context({ supplemental_groups: [long(4294967295)] }),
      "INVALID_ARGUMENT",
      /supplemental_groups\[0\]: 4294967295/,
    ],
    [
      "65,536 supplemental groups are all that there can be",
      () => context({ supplemental_groups: Array.from({ length: 65_537 }, (_, i) => long(i)) }),
      "INVALID_ARGUMENT",
      /supplemental_groups: 65537/,
    ],
    [
      "the policy is Merge or Strict",
      context({ supplemental_groups_policy: 2 as never }),
      "INVALID_ARGUMENT",
      /supplemental_groups_policy: 2 is neither Merge nor Strict/,
    ],
  ]);

  test("the largest ids there are, and who it is told to be", async () => {
    const largest = 4294967294;
    const { output, id } = await runToEnd(place.agent, place.pod, {
      ...sh("id -u; id -g; sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status"),
      ...context({
        run_as_user: value(largest),
        run_as_group: value(largest),
        supplemental_groups: [long(largest - 1)],
      }),
    });
    assert.equal(output.replaceAll(" \n", "\n"), `${largest}\n${largest}\n${largest - 1} ${largest}\n`);
    const { user } = await containerStatus(place.agent, id);
    assert.deepEqual([user?.linux?.uid, user?.linux?.gid].map(String), [`${largest}`, `${largest}`]);
  });
});

describe("what it is allowed", () => {
  refusedContainers(place, [
    [
      "privileged is for pods that say so",
      context({ privileged: true }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.privileged: the pod sandbox was not asked/,
    ],
    [
      "a capability to add is one",
      context({ capabilities: { add_capabilities: ["KILL", "FLY"] } }),
      "INVALID_ARGUMENT",
      /capabilities\.add_capabilities: "FLY" is no capability/,
    ],
    [
      "a capability to drop is one",
      context({ capabilities: { drop_capabilities: ["CAP_FLY"] } }),
      "INVALID_ARGUMENT",
      /capabilities\.drop_capabilities: "CAP_FLY"/,
    ],
    [
      "an ambient capability is one",
      context({ capabilities: { add_ambient_capabilities: [""] } }),
      "INVALID_ARGUMENT",
      /capabilities\.add_ambient_capabilities: ""/,
    ],
    [
      "a masked path is absolute",
      context({ masked_paths: ["/proc/kcore", "proc/keys"] }),
      "INVALID_ARGUMENT",
      /security_context\.masked_paths\[1\]: "proc\/keys" is not absolute/,
    ],
    [
      "a masked path is not empty",
      context({ masked_paths: [""] }),
      "INVALID_ARGUMENT",
      /masked_paths\[0\]: a path is needed/,
    ],
    ["a masked path has no NUL", context({ masked_paths: ["/a\0"] }), "INVALID_ARGUMENT", /masked_paths\[0\]/],
    [
      "a read-only path is absolute",
      context({ readonly_paths: ["x"] }),
      "INVALID_ARGUMENT",
      /security_context\.readonly_paths\[0\]: "x" is not absolute/,
    ],
    ["a read-only path has no NUL", context({ readonly_paths: ["/a\0"] }), "INVALID_ARGUMENT", /readonly_paths\[0\]/],
  ]);
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

describe("privileged is all of it", () => {
  test("capabilities, unmasked paths, a writable /proc and /sys, no confinement, every device", async () => {
    const strong = { linux: { security_context: { privileged: true } } };
    const pod = await runPod(place.agent, strong);
    const asked: Context = {
      ...strong.linux.security_context,
      capabilities: { drop_capabilities: ["ALL"] },
      seccomp: { profile_type: 0 },
      masked_paths: ["/proc/keys"],
      readonly_paths: ["/proc/sys"],
    };
    const id = await runContainer(place.agent, pod, context(asked));
    const told = (script: string) => out(place.agent, id, script);
    const own = /^CapPrm:\s*(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    assert.equal(await told("sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status"), own);
    assert.equal(await told("sed -n 's/^Seccomp:[[:space:]]*//p' /proc/self/status"), "0");
    assert.equal(await told("grep -c ' /proc/' /proc/mounts || true"), "0");
    assert.match(await told("grep ' /proc proc ' /proc/mounts"), / rw,/);
    assert.match(await told("grep ' /sys sysfs ' /proc/mounts"), / rw,/);
    assert.equal(await told("echo 1 > /proc/sys/net/ipv4/ip_forward && echo written"), "written");
    assert.equal(await told("mknod /any c 1 5 && head -c 3 /any | wc -c"), "3");
    // one that no other container may open
    assert.equal(await told("mknod /kmsg c 1 11 && : < /kmsg && echo open"), "open");
    await removePod(place.agent, pod);
  });
});

describe("seccomp, AppArmor, SELinux", () => {
  const localhost = (localhost_ref: string) => context({ seccomp: { profile_type: 2, localhost_ref } });
  refusedContainers(place, [
    [
      "a path goes with Localhost alone",
      context({ seccomp: { profile_type: 0, localhost_ref: "/p" } }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.seccomp\.localhost_ref: it goes with profile_type Localhost alone/,
    ],
    ["Localhost has a path", localhost(""), "INVALID_ARGUMENT", /seccomp\.localhost_ref: a path is needed/],
    [
      "the path is absolute",
      localhost("profile.json"),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: "profile\.json" is not absolute/,
    ],
    ["the path has no NUL", localhost("/a\0"), "INVALID_ARGUMENT", /seccomp\.localhost_ref/],
    [
      "the file is there",
      localhost("/nowhere/profile.json"),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: the seccomp profile cannot be read: .*ENOENT/,
    ],
    [
      "the file is a file",
      () => localhost(join(place.agent.paths.base, "directory")),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: .* is no regular file/,
    ],
    [
      "a device is no file",
      localhost("/dev/zero"),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: \/dev\/zero is no regular file/,
    ],
    [
      "the file is JSON",
      () => localhost(profile),
      "INVALID_ARGUMENT",
      /the seccomp profile .*profile\.json: it is not JSON/,
    ],
    [
      "the type is one that there is",
      context({ seccomp: { profile_type: 5 as never } }),
      "INVALID_ARGUMENT",
      /seccomp\.profile_type: 5 is no ProfileType/,
    ],
    [
      "the old field says runtime/default, unconfined or localhost/",
      context({ seccomp_profile_path: "anything" }),
      "INVALID_ARGUMENT",
      /seccomp_profile_path: "anything" is no profile/,
    ],
    [
      "the old field's path is absolute",
      context({ seccomp_profile_path: "localhost/p.json" }),
      "INVALID_ARGUMENT",
      /seccomp_profile_path: "p\.json" is not absolute/,
    ],
    [
      "an AppArmor profile's name goes with Localhost alone",
      context({ apparmor: { profile_type: 1, localhost_ref: "p" } }),
      "INVALID_ARGUMENT",
      /apparmor\.localhost_ref: it goes with profile_type Localhost alone/,
    ],
    [
      "an AppArmor profile of the node has a name",
      context({ apparmor: { profile_type: 2 } }),
      "INVALID_ARGUMENT",
      /apparmor\.localhost_ref: Localhost needs a profile's name/,
    ],
    [
      "an AppArmor profile has a type that there is",
      context({ apparmor: { profile_type: 9 as never } }),
      "INVALID_ARGUMENT",
      /apparmor\.profile_type: 9 is no ProfileType/,
    ],
    [
      "the old AppArmor field names a profile in the old ways",
      context({ apparmor_profile: "x" }),
      "INVALID_ARGUMENT",
      /apparmor_profile: "x" is no profile/,
    ],
    [
      "the old AppArmor field's localhost/ has a name",
      context({ apparmor_profile: "localhost/" }),
      "INVALID_ARGUMENT",
      /apparmor_profile: "localhost\/" is no profile/,
    ],
  ]);

  test("nothing said about seccomp is unconfined, as the old field's empty path is", async () => {
    const script = sh("sed -n 's/^Seccomp:[[:space:]]*//p' /proc/self/status");
    for (const [asked, expected] of [
      [{}, "0\n"],
      [{ seccomp_profile_path: "unconfined" }, "0\n"],
      [{ seccomp_profile_path: "runtime/default" }, "2\n"],
    ] as const) {
      const { output } = await runToEnd(place.agent, place.pod, { ...script, ...context(asked) });
      assert.equal(output, expected, JSON.stringify(asked));
    }
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
});

test("the image of a container is told by the id that the image has everywhere", async () => {
  const { image } = await place.agent.client.call("ImageStatus", { image: { image: busyboxName } });
  const id = await createContainer(place.agent, place.pod);
  assert.equal((await containerStatus(place.agent, id)).image_id, image?.id);
  const { containers } = await place.agent.client.call("ListContainers", { filter: { id } });
  assert.equal(containers[0]?.image_id, image?.id);
  await place.agent.client.call("RemoveContainer", { container_id: id });
});
