/** Pods with a user namespace of their own: root inside is nobody outside, and nothing is copied or chowned for it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { kernelFeatures } from "../../native/features.js";
import { compileProgram } from "../../native/test-support.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  ContainerState,
  containerConfig,
  containerStatus,
  createContainer,
  exec,
  fails,
  hostPidOf,
  importBusybox,
  NamespaceMode,
  namespaceOf,
  out,
  type RunningPod,
  runContainer,
  runPod,
  runToEnd,
  sh,
  waitExited,
} from "../support/workload.js";

type Mapping = runtime.v1.IIDMapping;
type UserNamespace = runtime.v1.IUserNamespace;
type SecurityContext = runtime.v1.ILinuxContainerSecurityContext;

const first = 300_000;
const length = 65_536;
const mapping = (host_id: number, container_id = 0, ids = length): Mapping[] => [
  { host_id, container_id, length: ids },
];
const options = (uids = mapping(first), gids = uids): UserNamespace => ({ mode: NamespaceMode.POD, uids, gids });

const skip = supportsUserNamespaces(kernelFeatures())
  ? false
  : `Linux ${kernelFeatures().release} cannot map the ids of overlay and tmpfs mounts`;

const programsImage = "berth.test/programs:1";
const idsSource = `
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("%d %d\\n", getuid(), geteuid()); }
`;
/** what ping does where it may not make raw sockets */
const icmpSource = `
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
int main(void) { puts(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) < 0 ? "no socket" : "may ping"); }
`;

/** A pod's config with this user namespace. */
function withUsers(
  userns_options: UserNamespace,
  more: runtime.v1.INamespaceOption = {},
): runtime.v1.IPodSandboxConfig {
  return { linux: { security_context: { namespace_options: { ...more, userns_options } } } };
}

describe("pods with a user namespace", { skip }, () => {
  let agent: TestAgent;
  let pod: RunningPod;

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    const program = async (name: string, source: string) =>
      readFileSync(await compileProgram(agent.paths.base, name, source));
    const layer = [
      { path: "ids", mode: 0o4755, content: await program("ids", idsSource) },
      { path: "icmp", mode: 0o755, content: await program("icmp", icmpSource) },
    ];
    await importBusybox(agent, programsImage, { layers: [layer] });
    pod = await runPod(agent, withUsers(options()));
  });

  after(() => agent.stop());

  /** What a script writes in a container of the pod, as the kubelet makes it. */
  async function outputOf(script: string, context: SecurityContext = {}, more: object = {}): Promise<string> {
    const { output } = await runToEnd(agent, pod, { ...sh(script), ...security(context), ...more });
    return output.trimEnd();
  }

  function security(context: SecurityContext = {}): runtime.v1.IContainerConfig {
    const namespace_options = { pid: NamespaceMode.CONTAINER, userns_options: options() };
    return { linux: { security_context: { namespace_options, ...context } } };
  }

  function volume(name: string): string {
    const directory = join(agent.paths.base, name);
    mkdirSync(directory);
    return directory;
  }

  const mapped = { uidMappings: mapping(first), gidMappings: mapping(first) };

  test("Status tells that they can be, and that the host's network does not go with them", async () => {
    const answer = await agent.client.call("Status", {});
    assert.deepEqual(
      answer.runtime_handlers.map(({ features }) => features?.user_namespaces),
      answer.runtime_handlers.map(() => true),
    );
    assert.equal(answer.features?.user_namespaces_host_network, false);
  });

  test("the mappings are those of the request, in every namespace of the pod", async () => {
    const id = await runContainer(agent, pod, security());
    const line = `0 ${first} ${length}`;
    for (const file of ["uid_map", "gid_map"]) {
      assert.equal((await out(agent, id, `cat /proc/1/${file}`)).trim().split(/\s+/).join(" "), line);
      assert.equal((await out(agent, id, `cat /proc/self/${file}`)).trim().split(/\s+/).join(" "), line);
    }
    const other = await runContainer(agent, pod, security());
    assert.equal(await namespaceOf(agent, id, "user"), await namespaceOf(agent, other, "user"));
    for (const name of ["user", "net", "ipc", "uts", "mnt", "pid", "cgroup"]) {
      assert.notEqual(await namespaceOf(agent, id, name), readlinkSync(`/proc/self/ns/${name}`), name);
    }
    assert.equal(readlinkSync(`/proc/${await monitorOf()}/ns/user`), readlinkSync("/proc/self/ns/user"));
  });

  /** The monitor is the parent of the pod's containers. */
  async function monitorOf(): Promise<number> {
    const id = await runContainer(agent, pod, security());
    const status = readFileSync(`/proc/${await hostPidOf(agent, id)}/status`, "utf8");
    return Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1]);
  }

  test("root and users inside have other numbers outside, at the start and in execs", async () => {
    for (const [context, uid, gid] of [
      [{}, first, first],
      [{ run_as_user: { value: 1000 } as never, run_as_group: { value: 2000 } as never }, first + 1000, first + 2000],
    ] as const) {
      const id = await runContainer(agent, pod, security(context));
      const status = readFileSync(`/proc/${await hostPidOf(agent, id)}/status`, "utf8");
      assert.match(status, new RegExp(`^Uid:\\s${uid}\\s${uid}\\s${uid}\\s${uid}$`, "m"));
      assert.match(status, new RegExp(`^Gid:\\s${gid}\\s${gid}\\s${gid}\\s${gid}$`, "m"));
      assert.equal(await out(agent, id, "echo $(id -u):$(id -g)"), `${uid - first}:${gid - first}`);
      assert.equal(await out(agent, id, "cat /proc/self/uid_map | wc -l"), "1");
    }
  });

  test("a capability inside is none outside", async () => {
    // the default profile of AppArmor, where there is one, refuses every mount by itself
    const all = { capabilities: { add_capabilities: ["ALL"] }, apparmor: { profile_type: 1 } };
    assert.equal(await outputOf("mount -t tmpfs x /tmp && echo done", all), "done");
    for (const script of [
      "echo x > /proc/sys/kernel/core_pattern",
      "mknod /tmp/sda b 8 0",
      "mount -t ext4 /dev/vda /tmp",
    ]) {
      assert.match(await outputOf(`{ ${script}; } 2>&1; true`, all), /denied|not permitted|Read-only|No such/, script);
    }
  });

  test("the layers' files belong to root inside, and are neither copied nor changed", async () => {
    const layers = join(agent.paths.root, "layers");
    const before = treeOf(layers);
    const id = await runContainer(agent, pod, security());
    assert.equal(await out(agent, id, "stat -c %u:%g / /bin /bin/busybox /home/app"), "0:0\n0:0\n0:0\n1000:1000");
    await out(agent, id, "touch /new && chown 1000:1000 /new && echo more >> /etc/passwd");
    const upper = join(agent.paths.root, "containers", id, "upper");
    assert.deepEqual(ownerOf(upper), [first, first]);
    assert.deepEqual(ownerOf(join(upper, "new")), [first + 1000, first + 1000]);
    assert.deepEqual(ownerOf(join(upper, "etc/passwd")), [first, first]);
    assert.ok(!existsSync(join(upper, "bin")), "what is only read is not copied");
    assert.deepEqual(treeOf(layers), before);
  });

  test("a set-user-id program works, and gives no more than the container's root", async () => {
    const image = { image: { image: programsImage } };
    const user = { run_as_user: { value: 1000 } as never };
    assert.equal(await outputOf("/ids", user, image), "1000 0");
    assert.equal(await outputOf("/ids", { ...user, no_new_privs: true }, image), "1000 1000");
  });

  test("an idmapped volume has the host's owners on the host, and those of the container inside", async () => {
    const directory = volume("idmapped");
    writeFileSync(join(directory, "of-root"), "x");
    writeFileSync(join(directory, "of-app"), "x");
    chownSync(join(directory, "of-app"), 1000, 1000);
    const mounts = [{ container_path: "/data", host_path: directory, ...mapped }];
    const script = "touch /data/made && chown 7:8 /data/made; stat -c %u:%g /data/of-root /data/of-app /data/made";
    assert.equal(await outputOf(script, {}, { mounts }), "0:0\n1000:1000\n7:8");
    assert.deepEqual(ownerOf(join(directory, "made")), [7, 8]);
    assert.deepEqual(ownerOf(join(directory, "of-app")), [1000, 1000]);
  });

  test("a volume may have mappings of its own, and read-only and files go with them", async () => {
    const directory = volume("own-mappings");
    chownSync(directory, 5000, 5000);
    writeFileSync(join(directory, "file"), "content");
    chownSync(join(directory, "file"), 5000, 5001);
    const ids = { uidMappings: mapping(first, 5000, 10), gidMappings: mapping(first, 5000, 10) };
    const mounts = [
      { container_path: "/data", host_path: directory, ...ids },
      { container_path: "/file", host_path: join(directory, "file"), readonly: true, ...ids },
    ];
    const script = "stat -c %u:%g /data /file; touch /data/made; (echo x > /file) 2>&1; true";
    assert.match(await outputOf(script, {}, { mounts }), /^0:0\n0:1\n.*Read-only/);
    assert.deepEqual(ownerOf(join(directory, "made")), [5000, 5000]);
  });

  test("a volume without mappings shows the host's files as nobody's", async () => {
    const directory = volume("plain");
    writeFileSync(join(directory, "of-root"), "x", { mode: 0o600 });
    const mounts = [{ container_path: "/data", host_path: directory }];
    const script = "stat -c %u:%g /data/of-root; cat /data/of-root 2>&1; touch /data/new 2>&1; true";
    assert.match(await outputOf(script, {}, { mounts }), /^65534:65534\n.*denied\n.*denied$/);
    assert.deepEqual(readdirSync(directory), ["of-root"]);
  });

  test("a file system that cannot map ids is named, and nothing is left", async () => {
    const host_path = `/proc/${process.pid}`;
    const mounts = [{ container_path: "/data", host_path, ...mapped }];
    await fails(
      createContainer(agent, pod, { ...security(), mounts }),
      "INVALID_ARGUMENT",
      /\/proc\/.*cannot be mapped/,
    );
  });

  test("proc, sysfs, mqueue, cgroup, shm, devices and the pod's files belong to the container's root", async () => {
    const script = `
      stat -c %u:%g /dev/null /dev/zero /dev/mqueue /dev/shm /dev/pts /etc/hosts /etc/hostname /etc/resolv.conf
      stat -c %u:%g /proc/self/status /sys/class/net/eth0/mtu
      echo x > /dev/null && head -c 2 /dev/zero | wc -c && grep -c '^[0-9]*$' /sys/class/net/eth0/mtu
      touch /dev/mqueue/q && ls /dev/mqueue && grep -c ' /sys/fs/cgroup' /proc/mounts
    `;
    const lines = (await outputOf(script)).split("\n");
    assert.deepEqual(lines.slice(0, 10), Array(10).fill("0:0"));
    assert.deepEqual(lines.slice(10, 13), ["2", "1", "q"]);
    assert.ok(Number(lines[13]) > 0);
    assert.equal(await outputOf("hostname; cat /etc/hostname"), `${pod.config.hostname}\n${pod.config.hostname}`);
  });

  test("standard output can be opened again, a terminal is the user's own", async () => {
    const user = { run_as_user: { value: 1000 } as never };
    assert.equal(await outputOf("echo one > /dev/stdout; echo two > /dev/stderr", user), "one\ntwo");
    const withTerminal = await runContainer(agent, pod, { tty: true, ...security(user) });
    assert.equal(await out(agent, withTerminal, "stat -c %u /dev/console /dev/pts/0"), "1000\n1000");
    const id = await runContainer(agent, pod, security(user));
    assert.equal(await out(agent, id, "echo again > /dev/stdout"), "again");
  });

  test("containers of the pod share /dev/shm and System V memory", async () => {
    const writer = await runContainer(agent, pod, security());
    const reader = await runContainer(agent, pod, security({ run_as_user: { value: 1000 } as never }));
    await out(agent, writer, "echo shared > /dev/shm/x");
    assert.equal(await out(agent, reader, "cat /dev/shm/x; stat -c %u:%g /dev/shm/x"), "shared\n0:0");
    assert.equal(await namespaceOf(agent, writer, "ipc"), await namespaceOf(agent, reader, "ipc"));
  });

  test("everybody may ping and bind every port", async () => {
    const none = { capabilities: { drop_capabilities: ["ALL"] }, run_as_user: { value: 1000 } as never };
    assert.equal(await outputOf("cat /proc/sys/net/ipv4/ping_group_range", none), `0\t${length - 1}`);
    assert.equal(await outputOf("/icmp", none, { image: { image: programsImage } }), "may ping");
    assert.equal(await outputOf("nc -l -p 80 & sleep 0.2; kill $! && echo bound", none), "bound");
    assert.equal(await outputOf("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", none), "0");
  });

  test("sysctls of the request speak of the pod's own groups", async () => {
    const sysctls = { "net.ipv4.ping_group_range": "5 10", "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" };
    const config = withUsers(options());
    const other = await runPod(agent, { ...config, linux: { ...config.linux, sysctls } });
    const id = await runContainer(agent, other);
    const read = "cd /proc/sys; cat net/ipv4/ping_group_range net/ipv4/ip_forward kernel/shm_rmid_forced";
    assert.equal(await out(agent, id, read), "5\t10\n1\n1");
    const beyond = { "net.ipv4.ping_group_range": `0 ${length}` };
    await fails(
      runPod(agent, { ...config, linux: { ...config.linux, sysctls: beyond } }),
      "INVALID_ARGUMENT",
      /ping_group_range.*not all groups/,
    );
  });

  test("one PID namespace for the pod, and another container's", async () => {
    const context = { namespace_options: { pid: NamespaceMode.POD, userns_options: options() } };
    const one = await runContainer(agent, pod, security(context));
    const other = await runContainer(agent, pod, { ...sh("exec sleep 4321"), ...security(context) });
    assert.match(await out(agent, one, "ps"), /sleep 4321/);
    assert.equal(await namespaceOf(agent, one, "pid"), await namespaceOf(agent, other, "pid"));
    const target = await runContainer(agent, pod, { ...sh("exec sleep 1234"), ...security() });
    const targeting = { pid: NamespaceMode.TARGET, target_id: target, userns_options: options() };
    const debug = await runContainer(agent, pod, security({ namespace_options: targeting }));
    assert.match(await out(agent, debug, "ps"), /sleep 1234/);
    assert.match(await out(agent, debug, "cat /proc/1/root/etc/hostname"), /^pod-/);
  });

  test("limits, exit codes and signals as for every container", async () => {
    const id = await runContainer(agent, pod, { ...sh("exit 7"), ...security() });
    assert.equal((await waitExited(agent, id)).exit_code, 7);
    const killed = await runContainer(agent, pod, security());
    await agent.client.call("StopContainer", { container_id: killed, timeout: 0 as never });
    assert.equal((await containerStatus(agent, killed)).exit_code, 137);
    const missing = await createContainer(agent, pod, { command: ["/none"], ...security() });
    await fails(agent.client.call("StartContainer", { container_id: missing }), "INVALID_ARGUMENT", /\/none/);
  });

  test("a privileged container is so inside: all capabilities and the host's device numbers, and no power over either", async () => {
    const config = withUsers(options());
    const context = { ...config.linux?.security_context, privileged: true };
    const privilegedPod = await runPod(agent, { linux: { security_context: context } });
    const id = await runContainer(agent, privilegedPod, security({ privileged: true }));
    assert.match(await out(agent, id, "ls /dev"), /^loop-control$/m);
    assert.equal(await out(agent, id, "stat -c %u:%g /dev/loop-control"), "65534:65534");
    const opened = await exec(agent, id, "exec 3< /dev/loop-control");
    assert.match(opened.stderr, /Permission denied/);
    assert.equal(await out(agent, id, "mkdir /m && mount -t tmpfs x /m && hostname other && hostname"), "other");
    const { exitCode } = await exec(agent, id, "echo 1 > /proc/sysrq-trigger");
    assert.notEqual(exitCode, 0);
  });

  test("pods and containers run on when the agent is killed, and new containers can be made after", async () => {
    const id = await runContainer(agent, pod, security());
    const users = await namespaceOf(agent, id, "user");
    await agent.kill9();
    await agent.restart();
    assert.equal((await containerStatus(agent, id)).state, ContainerState.CONTAINER_RUNNING);
    const later = await runContainer(agent, pod, security());
    for (const container of [id, later]) assert.equal(await namespaceOf(agent, container, "user"), users);
    const directory = volume("after-restart");
    const mounts = [{ container_path: "/data", host_path: directory, ...mapped }];
    assert.equal(await outputOf("touch /data/x; stat -c %u /data/x", {}, { mounts }), "0");
    assert.deepEqual(ownerOf(join(directory, "x")), [0, 0]);
  });

  test("a namespace of a single id", async () => {
    const one = options(mapping(first, 0, 1));
    const small = await runPod(agent, withUsers(one));
    const id = await runContainer(agent, small, { linux: {} });
    assert.equal(await out(agent, id, "echo $(id -u):$(id -g) $(stat -c %u /home/app)"), "0:0 65534");
    const config = containerConfig({ linux: { security_context: { run_as_user: { value: 1 } as never } } });
    const question = { pod_sandbox_id: small.id, config, sandbox_config: small.config };
    await fails(
      agent.client.call("CreateContainer", question),
      "INVALID_ARGUMENT",
      /the user 1 is not among the ids 0 to 0/,
    );
  });

  test("uids and gids may be mapped to different numbers", async () => {
    const different = await runPod(agent, withUsers(options(mapping(400_000), mapping(500_000))));
    const id = await runContainer(agent, different, { linux: {} });
    await out(agent, id, "touch /x");
    assert.deepEqual(ownerOf(join(agent.paths.root, "containers", id, "upper", "x")), [400_000, 500_000]);
  });

  test("nothing of a pod is left when it is removed", async () => {
    const other = await runPod(agent, withUsers(options()));
    await runContainer(agent, other, security());
    await runContainer(agent, other, security({ namespace_options: { pid: NamespaceMode.POD } }));
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: other.id });
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: other.id });
    const owners = execFileSync("ps", ["-eo", "uid="], { encoding: "utf8" }).split("\n").map(Number);
    const ofPod = (await agent.client.call("ListContainers", {})).containers.filter(
      ({ pod_sandbox_id }) => pod_sandbox_id === other.id,
    );
    assert.deepEqual(ofPod, []);
    assert.ok(owners.every((uid) => uid < 1_000_000));
  });

  describe("what is refused", () => {
    const pods: [string, runtime.v1.IPodSandboxConfig, string][] = [
      ["no mappings", withUsers({ mode: NamespaceMode.POD }), "userns_options\\.uids: there is no mapping"],
      ["no gids", withUsers(options(mapping(first), [])), "userns_options\\.gids: there is no mapping"],
      ["no uids", withUsers(options([], mapping(first))), "userns_options\\.uids: there is no mapping"],
      [
        "two mappings",
        withUsers(options([...mapping(first, 0, 10), ...mapping(first + 10, 10, 10)])),
        "userns_options\\.uids: there are 2 mappings; only one",
      ],
      ["no length", withUsers(options(mapping(first, 0, 0))), "uids\\[0\\]\\.length: it must be 1 at least"],
      ["no root", withUsers(options(mapping(first, 1))), "uids\\[0\\]\\.container_id: .*root, 0, is not mapped"],
      ["no root group", withUsers(options(mapping(first), mapping(first, 1))), "gids\\[0\\]\\.container_id: .*root"],
      ["beyond the last id", withUsers(options(mapping(0xffff_fff0, 0, 16))), "uids\\[0\\]\\.host_id: .*go beyond"],
      ["too many ids", withUsers(options(mapping(1, 0, 0xffff_ffff))), "uids\\[0\\]\\.host_id: .*go beyond"],
      ["CONTAINER", withUsers({ ...options(), mode: NamespaceMode.CONTAINER }), "mode: .*not CONTAINER"],
      ["TARGET", withUsers({ ...options(), mode: NamespaceMode.TARGET }), "mode: .*not TARGET"],
      ["an unknown mode", withUsers({ ...options(), mode: 9 as never }), "mode: .*not 9"],
      ["NODE with mappings", withUsers({ ...options(), mode: NamespaceMode.NODE }), "uids: the mode NODE maps no ids"],
      ...(["network", "pid", "ipc"] as const).map((name): [string, runtime.v1.IPodSandboxConfig, string] => [
        `the host's ${name}`,
        withUsers(options(), { [name]: NamespaceMode.NODE }),
        `${name}: a pod with a user namespace cannot have the host's`,
      ]),
    ];
    for (const [name, config, sentence] of pods) {
      test(`a pod: ${name}`, async () => {
        await fails(runPod(agent, config), "INVALID_ARGUMENT", new RegExp(`namespace_options\\..*${sentence}`));
      });
    }

    const containers: [string, UserNamespace | null, string][] = [
      ["other uids", options(mapping(first + 1)), "not uids 0:300001:65536"],
      ["other gids", options(mapping(first), mapping(first + 1)), "not uids .* gids 0:300001:65536"],
      ["another length", options(mapping(first, 0, 10)), "not uids 0:300000:10 "],
      ["the host's", { mode: NamespaceMode.NODE }, "not the host's"],
      ["no mappings", { mode: NamespaceMode.POD }, "there is no mapping"],
      ["CONTAINER", { ...options(), mode: NamespaceMode.CONTAINER }, "not CONTAINER"],
      ["TARGET", { ...options(), mode: NamespaceMode.TARGET }, "not TARGET"],
    ];
    for (const [name, userns_options, sentence] of containers) {
      test(`a container: ${name}`, async () => {
        const context = { namespace_options: { pid: NamespaceMode.CONTAINER, userns_options } };
        const call = createContainer(agent, pod, security(context));
        await fails(call, "INVALID_ARGUMENT", new RegExp(`namespace_options\\.userns_options.*${sentence}`));
      });
    }

    test("a container: a user namespace in a pod that has none", async () => {
      const plain = await runPod(agent);
      await fails(
        createContainer(agent, plain, security()),
        "INVALID_ARGUMENT",
        /userns_options: .*the host's, and not/,
      );
    });

    const ids = mapping(first);
    const mounts: [string, runtime.v1.IMount, RegExp][] = [
      ["uids alone", { uidMappings: ids }, /gidMappings: there is no mapping/],
      ["gids alone", { gidMappings: ids }, /uidMappings: there is no mapping/],
      ["two", { uidMappings: [...ids, ...ids], gidMappings: ids }, /uidMappings: there are 2 mappings/],
      ["no length", { uidMappings: ids, gidMappings: mapping(first, 0, 0) }, /gidMappings\[0\]\.length: it must be/],
      ["beyond", { uidMappings: mapping(0xffff_ffff, 0, 1), gidMappings: ids }, /uidMappings\[0\]\.host_id: .*beyond/],
      ["mounts on the host", { ...mapped, propagation: 2 }, /mounts\[0\]\.propagation: PROPAGATION_BIDIRECTIONAL/],
    ];
    for (const [name, mount, sentence] of mounts) {
      test(`a mount: ${name}`, async () => {
        const list = [{ container_path: "/data", host_path: agent.paths.logs, ...mount }];
        await fails(createContainer(agent, pod, { ...security(), mounts: list }), "INVALID_ARGUMENT", sentence);
      });
    }

    test("a user and groups without a number", async () => {
      const user = { run_as_user: { value: length } as never };
      await fails(
        createContainer(agent, pod, security(user)),
        "INVALID_ARGUMENT",
        /the user 65536 is not among the ids/,
      );
      const group = { supplemental_groups: [length as never] };
      await fails(createContainer(agent, pod, security(group)), "INVALID_ARGUMENT", /the group 65536 is not among/);
    });
  });
});

/** Everything below: owner, mode, size, inode, time of the last change. */
function treeOf(directory: string): string[] {
  return (
    readdirSync(directory, { recursive: true, encoding: "utf8" })
      // what is noted beside a layer is the store's, and may be written again
      .filter((name) => name.includes("/fs"))
      .sort()
      .map((name) => {
        const { uid, gid, mode, size, ino, ctimeMs } = statSync(join(directory, name), { throwIfNoEntry: false }) ?? {};
        return [name, uid, gid, mode, size, ino, ctimeMs].join(" ");
      })
  );
}

function ownerOf(path: string): [number, number] {
  const { uid, gid } = statSync(path);
  return [uid, gid];
}
