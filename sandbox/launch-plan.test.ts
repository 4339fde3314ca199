import assert from "node:assert/strict";
import { test } from "node:test";
import Long from "long";
import { berth } from "../cri-proto/generated/monitor.js";
import type { Hierarchy } from "./cgroup/manager.js";
import { InternalError, InvalidArgumentError } from "./errors.js";
import { toExecProcess, toLaunchPlan } from "./launch-plan.js";
import { buildSpec } from "./spec/build-spec.js";
import type { OciSpec } from "./spec/oci.js";
import { containerConfig, host, podConfig, specInput } from "./spec/spec-fixtures.js";

const { Plan, PidNamespace } = berth.monitor.v1;
const readonly = 0x1;
const v2: Hierarchy[] = [{ mountPoint: "/sys/fs/cgroup", version: 2, controllers: ["memory"], name: "" }];

function planOf(
  spec: OciSpec,
  { hierarchies = host.cgroup.hierarchies, pidTarget = "", volumes = [] as string[] } = {},
) {
  const mounts = spec.mounts
    .filter(({ type }) => type === "bind")
    .map((mount, i) => ({ mount, fd: 100 + i, isFile: i === 0 }));
  return toLaunchPlan(spec, {
    rootFd: 50,
    mountFds: { mounts },
    cgroup: { tasksFiles: ["/t"], cgroup2Directory: "/u", oomKillFile: "/o" },
    hierarchies,
    logPath: "/log",
    logs: { lineBytes: 16384, bytesPerSecond: 0 },
    volumes,
    stdin: true,
    stdinOnce: false,
    seccompFilter: new Uint8Array([1, 2]),
    pidTarget,
  });
}

test("descriptors are numbered from 1, the root first", () => {
  const { plan, descriptors } = planOf(buildSpec(specInput()));
  assert.deepEqual(descriptors, [50, 100, 101, 102]);
  assert.equal(plan.root_fd, 1);
  const sources = plan.mounts
    ?.filter((mount) => mount.source_fd)
    .map((mount) => [mount.destination, mount.source_fd, mount.is_file]);
  assert.deepEqual(sources, [
    ["/etc/hosts", 2, true],
    ["/etc/hostname", 3, false],
    ["/etc/resolv.conf", 4, false],
  ]);
});

test("a plan comes through the wire whole", () => {
  const { plan } = planOf(buildSpec(specInput()));
  const back = Plan.decode(Plan.encode(plan).finish());
  assert.deepEqual(back.process?.args, ["/bin/sh"]);
  assert.equal(back.process?.capabilities?.bounding?.toString(16), "a80425fb");
  assert.equal(back.process?.capabilities?.ambient?.toNumber(), 0);
  assert.equal(back.process?.has_oom_score_adj, true);
  assert.deepEqual([...(back.process?.seccomp_filter ?? [])], [1, 2]);
  assert.equal(back.log?.path, "/log");
  assert.deepEqual(back.cgroup?.tasks_files, ["/t"]);
  const tty = back.devices.find(({ path }) => path === "/dev/tty");
  assert.deepEqual([tty?.type, tty?.major, tty?.minor, tty?.mode], [0o020000, 5, 0, 0o666]);
});

test("flags become attributes, the rest the file system's own options", () => {
  const { plan } = planOf(buildSpec(specInput()));
  const mount = (path: string) => plan.mounts?.find(({ destination }) => destination === path);
  assert.deepEqual(mount("/dev")?.options, ["mode=755", "size=65536k"]);
  assert.equal(mount("/dev")?.attributes?.toNumber(), 0x22);
  assert.equal(mount("/sys")?.attributes?.toNumber(), 0xf);
  assert.deepEqual(mount("/dev/pts")?.options, ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]);
  assert.equal(mount("/dev/shm")?.type, "shm");
  assert.deepEqual(mount("/dev/shm")?.options, []);
});

test("cgroup v1: a tmpfs with a directory for each hierarchy, read-only when all are there", () => {
  const { plan } = planOf(buildSpec(specInput()));
  const cgroups = plan.mounts?.filter(({ destination }) => destination?.startsWith("/sys/fs/cgroup")) ?? [];
  assert.deepEqual(
    cgroups.map(({ destination, type, options }) => [destination, type, options]),
    [
      ["/sys/fs/cgroup", "tmpfs", ["mode=755"]],
      ["/sys/fs/cgroup/cpu", "cgroup", ["cpu"]],
      ["/sys/fs/cgroup/memory", "cgroup", ["memory"]],
      ["/sys/fs/cgroup/systemd", "cgroup", ["none", "name=systemd"]],
    ],
  );
  assert.deepEqual(
    cgroups.map(({ attributes }) => (attributes?.toNumber() ?? 0) & readonly),
    [0, 1, 1, 1],
  );
  assert.ok(plan.readonly_paths?.includes("/sys/fs/cgroup"));
});

test("cgroup v1 of a privileged container stays writable; v2 is one mount; without any there is none", () => {
  const privileged = buildSpec(
    specInput({
      config: containerConfig({ linux: { security_context: { privileged: true } } }),
      podConfig: podConfig({ linux: { security_context: { privileged: true } } }),
    }),
  );
  const { plan } = planOf(privileged);
  assert.deepEqual(plan.readonly_paths, []);
  assert.equal(
    plan.mounts?.find(({ destination }) => destination === "/sys/fs/cgroup/cpu")?.attributes?.toNumber(),
    0xe,
  );
  const unified = planOf(buildSpec(specInput()), { hierarchies: v2 }).plan.mounts?.filter((m) =>
    m.destination?.startsWith("/sys/fs"),
  );
  assert.deepEqual(
    unified?.map(({ type, attributes }) => [type, attributes?.toNumber()]),
    [["cgroup2", 0xf]],
  );
  const none = planOf(buildSpec(specInput()), { hierarchies: [] }).plan.mounts;
  assert.ok(!none?.some(({ destination }) => destination?.startsWith("/sys/fs")));
});

test("whose processes are seen", () => {
  const mode = (pid: string, podPid = "POD", pidTarget = "") => {
    const config = containerConfig({ linux: { security_context: { namespace_options: { pid, target_id: "x" } } } });
    const pod = podConfig({ linux: { security_context: { namespace_options: { pid: podPid } } } });
    const { plan } = planOf(buildSpec(specInput({ config, podConfig: pod })), { pidTarget });
    return [plan.pid_namespace, plan.pid_target ?? ""];
  };
  assert.deepEqual(mode("CONTAINER"), [PidNamespace.CONTAINER, ""]);
  assert.deepEqual(mode("POD"), [PidNamespace.POD, ""]);
  assert.deepEqual(mode("POD", "NODE"), [PidNamespace.HOST, ""]);
  assert.deepEqual(mode("TARGET", "POD", "whole-id"), [PidNamespace.TARGET, "whole-id"]);
});

test("an exec has the container's user, environment and restrictions, and its own arguments", () => {
  const spec = buildSpec(specInput({ user: { uid: 7, gid: 8, additionalGids: [8, 9], home: "/", username: "" } }));
  const process = toExecProcess(spec, { args: ["true"], terminal: true, seccompFilter: new Uint8Array() });
  assert.deepEqual(process.args, ["true"]);
  assert.deepEqual([process.uid, process.gid, process.additional_gids], [7, 8, [8, 9]]);
  assert.ok(process.env?.map(String).includes("TERM=xterm"));
  assert.equal(process.terminal, true);
  assert.deepEqual(process.capabilities?.effective, Long.UZERO);
  assert.deepEqual(spec.process.args, ["/bin/sh"]);
  assert.throws(
    () => toExecProcess(spec, { args: ["a\0"], terminal: false, seccompFilter: new Uint8Array() }),
    InvalidArgumentError,
  );
});

test("an image's volumes are directories, but where something is mounted, be it a file", () => {
  const spec = buildSpec(specInput());
  const { destination } = spec.mounts.find(({ type }) => type === "bind") as { destination: string };
  const volumes = ["/data", "/data/../data", "relative", "/dev/x", destination, `${destination}/below`, "/a/b"];
  assert.deepEqual(planOf(spec, { volumes }).plan.directories, ["/data", "/a/b"]);
});

test("a mount whose source was not opened is our own mistake", () => {
  assert.throws(
    () =>
      toLaunchPlan(buildSpec(specInput()), {
        rootFd: 1,
        mountFds: { mounts: [] },
        cgroup: { tasksFiles: [], cgroup2Directory: "", oomKillFile: "" },
        hierarchies: [],
        logPath: "",
        logs: { lineBytes: 16384, bytesPerSecond: 0 },
        volumes: [],
        stdin: false,
        stdinOnce: false,
        seccompFilter: new Uint8Array(),
        pidTarget: "",
      }),
    InternalError,
  );
});
