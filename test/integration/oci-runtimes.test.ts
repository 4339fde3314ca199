/** RuntimeClass: containers that an OCI runtime makes, in Berth's pods, under Berth's monitor. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { kernelFeatures } from "../../native/features.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups, leftProcesses } from "../support/leaks.js";
import { WebSocketClient } from "../support/websocket-client.js";
import { takesBetween } from "../support/within.js";
import {
  bundlesOf,
  ContainerState,
  containerConfig,
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  NamespaceMode,
  namespaceOf,
  out,
  type RunningPod,
  readLog,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  sh,
  untilWritten,
  waitExited,
} from "../support/workload.js";

const { SecurityProfile } = runtime.v1;
const noApparmor = kernelFeatures().apparmor ? false : "this machine's kernel has no AppArmor";
const megabyte = 1024 * 1024;
const hugepage_limits = ["2MB", "1GB"].map((page_size) => ({ page_size, limit: long(0) }));
const scratch = mkdtempSync(join(tmpdir(), "berth-oci-"));
const candidates = { runc: "/usr/sbin/runc", crun: "/usr/bin/crun", youki: "/usr/bin/youki" };
let agent: TestAgent;

before(async () => {
  const config = join(scratch, "config.toml");
  const tables = Object.entries(candidates).map(([name, path]) => `[runtimes.${name}]\npath = "${path}"\n`);
  writeFileSync(join(scratch, "slow"), '#!/bin/sh\ncase "$1 $2" in features* | *--help) ;; *) sleep 600 ;; esac\n', {
    mode: 0o755,
  });
  tables.push(`[runtimes.slow]\npath = "${join(scratch, "slow")}"\ntimeout = 1\n`);
  // tells where its commands run
  const wrapper = `#!/bin/sh\ncat /proc/self/cgroup >> ${join(scratch, "cgroups")}\nexec ${candidates.runc} "$@"\n`;
  writeFileSync(join(scratch, "telling"), wrapper, { mode: 0o755 });
  tables.push(`[runtimes.telling]\npath = "${join(scratch, "telling")}"\n`);
  tables.push(`[runtimes.late]\npath = "${join(scratch, "late")}"\n`);
  tables.push(`[runtimes.directory]\npath = "${scratch}"\n`);
  tables.push('[runtimes.missing]\npath = "/nowhere/runtime"\n', '[rlimits]\nnofile = "1000:2000"\n');
  writeFileSync(config, tables.join(""));
  agent = await startAgent({ flags: { config } });
  await importBusybox(agent);
});

after(async () => {
  await agent.stop();
  rmSync(scratch, { recursive: true });
});

const runPodOf = (handler: string, more: runtime.v1.IPodSandboxConfig = {}) => runPod(agent, more, handler);

/** The line of the hierarchy that shares the processor. */
const cpuPathOf = (membership: string) => {
  const lines = membership.split("\n");
  return lines.find((line) => /:(.*,)?cpu(,.*)?:/.test(line)) ?? lines.find((line) => line.startsWith("0::"));
};

test("a runtime's commands get the processor as the agent does, not as the pod", {
  skip: !existsSync(candidates.runc) && "runc is not installed",
}, async () => {
  const pod = await runPodOf("telling");
  writeFileSync(join(scratch, "cgroups"), "");
  const id = await runContainer(agent, pod);
  assert.equal(await out(agent, id, "echo done"), "done");
  const own = cpuPathOf(readFileSync(`/proc/${agent.pid}/cgroup`, "utf8")) ?? "";
  const hierarchy = own.slice(0, own.lastIndexOf(":") + 1);
  const told = readFileSync(join(scratch, "cgroups"), "utf8")
    .split("\n")
    .filter((line) => line.startsWith(hierarchy));
  // create, start, exec
  assert.ok(told.length >= 3, told.join("\n"));
  assert.deepEqual([...new Set(told)], [own]);
  // and the container's programs as it is for them: at its cgroup namespace's root, or in an exec's cgroup below
  assert.match(cpuPathOf(await out(agent, id, "cat /proc/self/cgroup")) ?? "", /:\/([^./]+)?$/);
  await removePod(agent, pod);
});

for (const [handler, path] of Object.entries(candidates)) {
  const skip = existsSync(path) ? false : `${path} is not installed`;
  describe(`the runtime ${handler}`, { skip }, () => {
    let pod: RunningPod;
    let id: string;

    before(async () => {
      pod = await runPodOf(handler);
      id = await runContainer(agent, pod, {
        envs: [{ key: "GIVEN", value: Buffer.from("yes") }],
        working_dir: "/tmp",
        // the kubelet limits every page size of the host
        linux: { resources: { memory_limit_in_bytes: long(64 * megabyte), cpu_shares: long(512), hugepage_limits } },
      });
    });

    test("runs a program: its output in the log, its exit code in the status", async () => {
      const { status, output } = await runToEnd(agent, pod, sh("echo out; echo err >&2; exit 7"));
      assert.deepEqual([status.exit_code, status.reason], [7, "Error"]);
      assert.match(output, /out\n/);
      assert.match(output, /err\n/);
      const { status: good } = await runToEnd(agent, pod, { command: ["true"] });
      assert.deepEqual([good.exit_code, good.reason], [0, "Completed"]);
      const { status: killed } = await runToEnd(agent, pod, sh("kill -KILL $$"));
      assert.equal(killed.exit_code === 137 || killed.exit_code === 0, true, "the init of a namespace ignores its own");
    });

    test("its containers live in the pod's namespaces, with processes and mounts of their own", async () => {
      const other = await runContainer(agent, pod);
      for (const name of ["net", "ipc", "uts"]) {
        assert.equal(await namespaceOf(agent, id, name), await namespaceOf(agent, other, name), name);
      }
      for (const name of ["pid", "mnt", "cgroup"]) {
        assert.notEqual(await namespaceOf(agent, id, name), await namespaceOf(agent, other, name), name);
      }
      assert.equal(await out(agent, id, "hostname"), pod.config.hostname);
      assert.match(await out(agent, id, "cat /etc/resolv.conf /etc/hosts"), /localhost/);
    });

    test("shared memory is the pod's", async () => {
      const other = await runContainer(agent, pod);
      await out(agent, id, "echo shared > /dev/shm/file");
      assert.equal(await out(agent, other, ["cat", "/dev/shm/file"]), "shared");
    });

    test("exec: streams, exit code, environment, directory, cgroups, limits", async () => {
      const script = "printf 'a\\000b\\n'; printf 'error' >&2; exit 3";
      assert.deepEqual(await exec(agent, id, script), { stdout: "a\0b\n", stderr: "error", exitCode: 3 });
      assert.equal(await out(agent, id, "echo $GIVEN; pwd; id -u"), "yes\n/tmp\n0");
      assert.equal((await exec(agent, id, "kill -KILL $$")).exitCode, 137);
      const lines = (await out(agent, id, ["cat", "/proc/self/cgroup"])).split("\n");
      for (const line of lines.filter((line) => !line.startsWith("0:"))) assert.match(line, /:\/$/);
      assert.match(await out(agent, id, ["cat", "/proc/1/limits"]), /^Max open files +1000 +2000 /m);
      assert.equal(await out(agent, id, ["ls", "/proc/self/fd"]), "0\n1\n2\n3");
    });

    test("exec at its timeout: the whole tree is dead, within 0.2 s", async () => {
      const tree = "setsid sleep 777 & (sleep 778 &) ; trap '' TERM; sleep 779";
      await takesBetween(1_000, 1_300, () => fails(exec(agent, id, tree, 1), "DEADLINE_EXCEEDED", /1/));
      const left = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).map(({ what }) => what);
      assert.ok(!left.some((what) => /sleep 77[789]/.test(what)), left.join("\n"));
    });

    test("forty execs at once", async () => {
      const calls = Array.from({ length: 40 }, (_, index) => exec(agent, id, `echo ${index}; exit ${index}`));
      for (const [index, { stdout, exitCode }] of (await Promise.all(calls)).entries()) {
        assert.deepEqual([stdout, exitCode], [`${index}\n`, index]);
      }
    });

    test("stop: the signal first, then everything is killed", async () => {
      const polite = await runContainer(agent, pod, sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"));
      await untilWritten(agent, polite, "ready");
      await agent.client.call("StopContainer", { container_id: polite, timeout: long(10) });
      assert.equal((await containerStatus(agent, polite)).exit_code, 5);
      const deaf = await runContainer(agent, pod, sh("trap '' TERM; setsid sleep 776 & echo ready; sleep 775"));
      await untilWritten(agent, deaf, "ready");
      await agent.client.call("StopContainer", { container_id: deaf, timeout: long(1) });
      assert.equal((await containerStatus(agent, deaf)).exit_code, 137);
      const left = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).map(({ what }) => what);
      assert.ok(!left.some((what) => /sleep 77[56]/.test(what)), left.join("\n"));
    });

    test("a container that is removed before it was started leaves nothing", async () => {
      const created = await createContainer(agent, pod);
      assert.equal((await containerStatus(agent, created)).state, ContainerState.CONTAINER_CREATED);
      await agent.client.call("RemoveContainer", { container_id: created });
      assert.ok(!bundlesOf(agent, pod).includes(created));
      assert.deepEqual(leftCgroups(`${agent.cgroupRoot}/${created}`), []);
    });

    test("limits are in force, and change while it runs", async () => {
      const file = leftCgroups(`${agent.cgroupRoot}/${id}`)
        .flatMap((directory) => ["memory.limit_in_bytes", "memory.max"].map((name) => join(directory, name)))
        .find(existsSync);
      assert.ok(file);
      assert.equal(readFileSync(file, "utf8").trim(), String(64 * megabyte));
      const linux = { memory_limit_in_bytes: long(128 * megabyte), cpu_shares: long(256), hugepage_limits };
      await agent.client.call("UpdateContainerResources", { container_id: id, linux });
      assert.equal(readFileSync(file, "utf8").trim(), String(128 * megabyte));
      const told = (await containerStatus(agent, id)).resources?.linux;
      assert.equal(String(told?.memory_limit_in_bytes), String(128 * megabyte));
      // told by the weight that is in force on cgroup v2: of shares, runtimes before 2025 make less than Berth does
      if (!file.endsWith("memory.max")) assert.equal(String(told?.cpu_shares), "256");
      assert.equal(await out(agent, id, ["echo", "alive"]), "alive");
    });

    test("a container that needs more memory than its limit is killed, and says so", async () => {
      const { status } = await runToEnd(agent, pod, {
        command: ["sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=100M count=1"],
        linux: { resources: { memory_limit_in_bytes: long(32 * megabyte) } },
      });
      assert.deepEqual([status.exit_code, status.reason], [137, "OOMKilled"]);
    });

    test("volumes: read-write, read-only, a single file", async () => {
      const source = join(agent.paths.base, `volume-${handler}`);
      mkdirSync(source);
      writeFileSync(join(source, "file"), "from the host\n");
      const mounted = await runContainer(agent, pod, {
        mounts: [
          { host_path: source, container_path: "/rw" },
          { host_path: source, container_path: "/ro", readonly: true },
          { host_path: join(source, "file"), container_path: "/one/file" },
        ],
      });
      assert.equal(await out(agent, mounted, "cat /ro/file /one/file"), "from the host\nfrom the host");
      await out(agent, mounted, "echo written > /rw/new");
      assert.equal(readFileSync(join(source, "new"), "utf8"), "written\n");
      const refused = await exec(agent, mounted, "echo x > /ro/other");
      assert.match(refused.stderr, /Read-only/);
    });

    test("what the host mounts later below a volume that follows it is seen inside", async () => {
      const source = join(agent.paths.base, `followed-${handler}`);
      mkdirSync(source);
      const mount = (...args: string[]) => assert.equal(spawnSync("mount", args).status, 0, args.join(" "));
      mount("-t", "tmpfs", "none", source);
      try {
        mount("--make-rshared", source);
        mkdirSync(join(source, "below"));
        const { PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL } = runtime.v1.MountPropagation;
        for (const propagation of [PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL]) {
          const follower = await runContainer(agent, pod, {
            mounts: [{ host_path: source, container_path: "/volume", propagation }],
          });
          mount("-t", "tmpfs", "none", join(source, "below"));
          writeFileSync(join(source, "below", "file"), "later\n");
          assert.equal(await out(agent, follower, ["cat", "/volume/below/file"]), "later");
          assert.equal(spawnSync("umount", [join(source, "below")]).status, 0);
          await agent.client.call("RemoveContainer", { container_id: follower });
        }
      } finally {
        spawnSync("umount", ["-R", source]);
      }
    });

    test("what it mounts below a bidirectional volume leaves the host with it", async () => {
      const source = join(agent.paths.base, `reflecting-${handler}`);
      mkdirSync(source);
      assert.equal(spawnSync("mount", ["-t", "tmpfs", "none", source]).status, 0);
      const onHost = () => readFileSync("/proc/self/mountinfo", "utf8").split(`${source}/`).length - 1;
      try {
        assert.equal(spawnSync("mount", ["--make-rshared", source]).status, 0);
        const propagation = runtime.v1.MountPropagation.PROPAGATION_BIDIRECTIONAL;
        const id = await runContainer(agent, pod, {
          mounts: [
            { host_path: source, container_path: "/volume", propagation },
            { host_path: scratch, container_path: "/volume/below" },
          ],
        });
        assert.equal(onHost(), 1);
        await agent.client.call("RemoveContainer", { container_id: id });
        assert.equal(onHost(), 0);
      } finally {
        spawnSync("umount", ["-R", source]);
      }
    });

    test("what is masked, dropped and filtered with Berth's own launcher is here, too", async () => {
      const security_context = {
        seccomp: { profile_type: SecurityProfile.ProfileType.RuntimeDefault },
        no_new_privs: true,
        run_as_user: { value: long(1000) },
        supplemental_groups: [long(7)],
        masked_paths: ["/proc/acpi", "/proc/kcore"],
      };
      const own = await runPodOf("");
      // one of them makes a link /dev/core
      const probe =
        "grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|Uid)' /proc/self/status; ls /dev | grep -v core; ls -A /proc/acpi";
      const told = [];
      for (const where of [own, pod]) {
        told.push(await out(agent, await runContainer(agent, where, { linux: { security_context } }), probe));
      }
      assert.equal(told[0], told[1]);
      assert.match(told[0] ?? "", /^Seccomp:\t2$/m);
      await removePod(agent, own);
    });

    test("its program and execs have the default AppArmor profile", { skip: noApparmor }, async () => {
      const profile = await out(agent, id, ["cat", "/proc/1/attr/current", "/proc/self/attr/current"]);
      assert.equal(profile, "berth-default (enforce)\nberth-default (enforce)");
    });

    test("a terminal", async () => {
      const terminal = await runContainer(agent, pod, { ...sh("tty; test -t 1 && echo terminal"), tty: true });
      const { log_path } = await waitExited(agent, terminal);
      const log = readFileSync(log_path ?? "", "utf8");
      assert.match(log, / stdout F \/dev\/(pts\/\d+|console)\r?\n/);
      assert.match(log, / stdout F terminal\r?\n/);
    });

    test("exec with a terminal, also of a program that ends before the runtime does", async () => {
      for (let round = 0; round < 10; round++) {
        const cmd = ["echo", `hello ${round}`];
        const request = { container_id: id, cmd, tty: true, stdin: true, stdout: true };
        const { url } = await agent.client.call("Exec", request);
        const client = await WebSocketClient.open(url, ["v5.channel.k8s.io"]);
        assert.equal((await client.ended()).status, "Success");
        assert.equal(client.text(1), `hello ${round}\r\n`);
      }
    });

    test("one PID namespace for the pod, and another container's", async () => {
      const shared = await runPodOf(handler);
      const options = { security_context: { namespace_options: { pid: NamespaceMode.POD } } };
      const one = await runContainer(agent, shared, { command: ["sleep", "4321"], linux: options });
      const two = await runContainer(agent, shared, { linux: options });
      assert.equal(await namespaceOf(agent, one, "pid"), await namespaceOf(agent, two, "pid"));
      assert.match(await out(agent, two, "ps"), /sleep 4321/);
      const own = await runContainer(agent, shared, { command: ["sleep", "1234"] });
      const targeting = { namespace_options: { pid: NamespaceMode.TARGET, target_id: own } };
      const debug = await runContainer(agent, shared, { linux: { security_context: targeting } });
      const seen = await out(agent, debug, "ps");
      assert.match(seen, /sleep 1234/);
      assert.doesNotMatch(seen, /sleep 4321/);
      await agent.client.call("StopContainer", { container_id: two });
      assert.equal((await containerStatus(agent, one)).state, ContainerState.CONTAINER_RUNNING);
      await removePod(agent, shared);
    });

    test("the host's PID namespace and network", async () => {
      const modes = { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE };
      const host = await runPodOf(handler, { linux: { security_context: { namespace_options: modes } } });
      const inHost = await runContainer(agent, host, { linux: { security_context: { namespace_options: modes } } });
      assert.equal(await out(agent, inHost, ["cat", `/proc/${process.pid}/comm`]), "node");
      assert.equal((await exec(agent, inHost, "exit 4")).exitCode, 4);
      await removePod(agent, host);
    });

    test("kill -9 of the agent: it runs on, its exit code is known, it can be exec'd into and stopped", async () => {
      const lives = await runContainer(agent, pod);
      const ends = await runContainer(agent, pod, sh("sleep 0.5; exit 9"));
      const waits = await createContainer(agent, pod);
      await agent.kill9();
      await sleep(700);
      await agent.restart();
      assert.equal((await waitExited(agent, ends)).exit_code, 9);
      assert.equal(await out(agent, lives, ["echo", "alive"]), "alive");
      await agent.client.call("StartContainer", { container_id: waits });
      assert.equal(await out(agent, waits, ["echo", "alive"]), "alive");
      await agent.client.call("StopContainer", { container_id: lives });
      assert.equal((await containerStatus(agent, lives)).exit_code, 137);
    });

    test("kill -9 of the agent during a creation: the container is there whole, or nothing of it is", async () => {
      const question = { pod_sandbox_id: pod.id, config: containerConfig(), sandbox_config: pod.config };
      const listed = async () =>
        (await agent.client.call("ListContainers", { filter: { pod_sandbox_id: pod.id } })).containers;
      const before = { bundles: bundlesOf(agent, pod), containers: (await listed()).length };
      // from the moment that the bundle is begun to the middle of the runtime's work, and about its end
      for (const laterMs of [0, 4, 12, 25]) {
        const creation = agent.client.call("CreateContainer", question).catch(() => undefined);
        for (
          const until = Date.now() + 5_000;
          bundlesOf(agent, pod).length === before.bundles.length && Date.now() < until;
        ) {
          await sleep(1);
        }
        await sleep(laterMs);
        await agent.kill9();
        const answer = await creation;
        await agent.restart();
        const made = (await listed()).filter(({ state }) => state === ContainerState.CONTAINER_CREATED);
        const ids = made.map(({ id }) => id ?? "");
        if (answer === undefined) assert.ok(ids.length <= 1, ids.join());
        else assert.deepEqual(ids, [answer.container_id]);
        for (const created of ids) {
          await agent.client.call("StartContainer", { container_id: created });
          assert.equal(await out(agent, created, ["echo", "alive"]), "alive");
          await agent.client.call("RemoveContainer", { container_id: created });
        }
        assert.deepEqual(bundlesOf(agent, pod), before.bundles, `killed after ${laterMs} ms`);
        assert.equal((await listed()).length, before.containers);
        assert.equal(await out(agent, id, ["echo", "alive"]), "alive");
      }
    });

    test("its log can be rotated", async () => {
      const writer = await runContainer(agent, pod, sh("echo one; sleep 0.3; echo two; sleep 100"));
      const { log_path = "" } = await containerStatus(agent, writer);
      await untilWritten(agent, writer, "two");
      rmSync(log_path ?? "");
      await agent.client.call("ReopenContainerLog", { container_id: writer });
      assert.deepEqual(await readLog(log_path ?? ""), []);
      assert.ok(existsSync(log_path ?? ""));
    });

    test("a pod that is removed while its containers are made goes with its directory", async () => {
      for (let round = 0; round < 10; round++) {
        const short = await runPodOf(handler);
        const creations = Promise.allSettled([1, 2, 3, 4].map(() => createContainer(agent, short)));
        await sleep(round);
        await agent.client.call("RemovePodSandbox", { pod_sandbox_id: short.id });
        await creations;
        assert.ok(!readdirSync(join(agent.paths.run, "pods")).includes(short.id));
      }
    });

    test("after the pod is removed nothing is left", async () => {
      await removePod(agent, pod);
      await agent.assertNothingLeft();
      assert.deepEqual(
        belowUnified().filter((name) => agent.cgroupRoot.endsWith(name)),
        [],
      );
    });
  });
}

/** What the host has below its mount of the unified hierarchy: a runtime that did not see the mount may have written there. */
function belowUnified(): string[] {
  const script = "umount --lazy /sys/fs/cgroup/unified && ls /sys/fs/cgroup/unified";
  const { status, stdout } = spawnSync("unshare", ["--mount", "sh", "-c", script], { encoding: "utf8" });
  return status === 0 ? stdout.split("\n").filter((name) => name !== "") : [];
}

test("Status lists the handlers that can be used, and what each can do", async () => {
  const { runtime_handlers: handlers } = await agent.client.call("Status", {});
  const names = handlers.map(({ name }) => name);
  assert.deepEqual(names.slice(0, 2), ["", "berth"]);
  for (const [name, path] of Object.entries(candidates)) assert.equal(names.includes(name), existsSync(path), name);
  for (const name of ["missing", "directory"]) assert.ok(!names.includes(name));
  const runc = handlers.find(({ name }) => name === "runc");
  if (runc !== undefined) assert.equal(runc.features?.recursive_read_only_mounts, true);
});

test("an unknown handler is refused, one whose program is missing says so, and neither leaves anything", async () => {
  await fails(runPodOf("nonesuch"), "INVALID_ARGUMENT", /runtime_handler: "nonesuch" is not known; there are/);
  await fails(runPodOf("missing"), "FAILED_PRECONDITION", /"missing" cannot be used: .*\/nowhere\/runtime/);
  await fails(runPodOf("directory"), "FAILED_PRECONDITION", /"directory" cannot be used: .* is no program/);
});

test("a runtime that is installed while the agent runs can be used at once, and one that is taken away says so", async () => {
  const program = join(scratch, "late");
  const isListed = async () => {
    const { runtime_handlers: handlers } = await agent.client.call("Status", {});
    return handlers.some(({ name }) => name === "late");
  };
  await fails(runPodOf("late"), "FAILED_PRECONDITION", /"late" cannot be used: .*no such file/);
  assert.equal(await isListed(), false);
  writeFileSync(program, "#!/bin/sh\n", { mode: 0o644 });
  await fails(runPodOf("late"), "FAILED_PRECONDITION", /"late" cannot be used: .*permission denied/);
  chmodSync(program, 0o755);
  await removePod(agent, await runPodOf("late"));
  assert.equal(await isListed(), true);
  rmSync(program);
  assert.equal(await isListed(), false);
  await fails(runPodOf("late"), "FAILED_PRECONDITION", /"late" cannot be used: .*no such file/);
});

test("a runtime that does not answer is killed at its time limit", async () => {
  const pod = await runPodOf("slow");
  const begun = performance.now();
  await fails(createContainer(agent, pod), "INTERNAL", /slow create: it did not end in its time/);
  assert.ok(performance.now() - begun < 5_000);
  assert.deepEqual(bundlesOf(agent, pod), []);
  await removePod(agent, pod);
});
