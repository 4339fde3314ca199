/** OCI hooks, from a directory and from CDI devices, at the OCI's points and in its namespaces. */
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { kernelFeatures } from "../../native/features.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups } from "../support/leaks.js";
import { until } from "../support/until.js";
import {
  containerStatus,
  createContainer,
  fails,
  importBusybox,
  NamespaceMode,
  namespaceOf,
  out,
  type RunningPod,
  runContainer,
  runPod,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
let base: string;

before(async () => {
  base = mkdtempSync(join(tmpdir(), "berth-hooks-"));
  for (const name of ["hooks.d", "cdi", "out"]) mkdirSync(join(base, name));
  agent = await startAgent({ flags: { "hooks-dir": join(base, "hooks.d"), "cdi-dirs": join(base, "cdi") } });
  await importBusybox(agent);
  pod = await runPod(agent);
});

afterEach(() => {
  for (const name of ["hooks.d", "out"]) {
    rmSync(join(base, name), { recursive: true });
    mkdirSync(join(base, name));
  }
});

after(async () => {
  await agent.stop();
  rmSync(base, { recursive: true, force: true });
});

/** A hook for containers with the annotation test=<stage>. */
function addHook(stage: string, script: string, more: object = {}): void {
  const program = join(base, "hooks.d", `${stage}.sh`);
  writeFileSync(program, `#!/bin/sh\n${script}\n`);
  chmodSync(program, 0o755);
  const content = {
    version: "1.0.0",
    hook: { path: program, args: ["hook", stage], env: ["PATH=/bin:/usr/bin"], ...more },
    when: { annotations: { "^test$": `(^|,)${stage}(,|$)` } },
    stages: [stage],
  };
  writeFileSync(join(base, "hooks.d", `${stage}.json`), JSON.stringify(content));
}

const forStages = (...stages: string[]) => ({ annotations: { test: stages.join(",") } });
const told = (name: string) => readFileSync(join(base, "out", name), "utf8");

interface State {
  id: string;
  status: string;
  pid: number;
  bundle: string;
}
const namespaces = "for n in net mnt pid uts; do readlink /proc/self/ns/$n; done";
const ofHost = ["net", "mnt", "pid", "uts"].map((name) => readlinkSync(`/proc/self/ns/${name}`));

test("in a user namespace createContainer hooks run as its root", async (t) => {
  if (!supportsUserNamespaces(kernelFeatures())) return t.skip("this kernel has no idmapped overlay and tmpfs mounts");
  chmodSync(base, 0o755);
  chmodSync(join(base, "out"), 0o777);
  // as runc's do: its root, its bundle, its number and the devices that programs take for granted
  addHook(
    "createContainer",
    `cat > ${base}/out/state
    { id -u; cat /proc/self/uid_map; readlink /proc/self/ns/pid; } 2> /dev/null > ${base}/out/hook
    bundle=$(sed 's/.*"bundle":"\\([^"]*\\)".*/\\1/' ${base}/out/state)
    root=$(sed -n '/"root": {/,/}/s/.*"path": "\\([^"]*\\)".*/\\1/p' $bundle/config.json)
    ls $root/bin/busybox > ${base}/out/root; echo made > $root/from-hook`,
  );
  const ids = [{ host_id: 300_000, container_id: 0, length: 65_536 }];
  const userns_options = { mode: NamespaceMode.POD, uids: ids, gids: ids };
  const linux = { security_context: { namespace_options: { pid: NamespaceMode.CONTAINER, userns_options } } };
  const users = await runPod(agent, { linux });
  const id = await runContainer(agent, users, { ...forStages("createContainer"), linux });
  const [uid, map, namespace] = told("hook").trim().split("\n");
  assert.deepEqual([uid, map?.trim().split(/\s+/).join(" ")], ["0", "0 300000 65536"]);
  assert.equal(namespace, await namespaceOf(agent, id, "pid"));
  assert.match(told("root"), /\/bin\/busybox\n$/);
  assert.equal(await out(agent, id, "stat -c %u /from-hook; ls /dev | grep -cE 'bundle|root' || true"), "0\n0");
  assert.equal((JSON.parse(told("state")) as State).pid, 1);
});

/** A hook outlives the agent that is killed, and must not outlive the tests: their directory may be gone before it looks. */
function untilThere(path: string): string {
  return `until [ -e ${path} ] || ! [ -d ${base} ]; do sleep 0.05; done`;
}

test("a pod that is removed while a hook runs: the creation fails, and takes the cgroup parents with it", async () => {
  const go = join(base, "out", "go");
  addHook("createRuntime", `echo here > ${base}/out/hook; ${untilThere(go)}`);
  const cgroup_parent = `${agent.cgroupRoot}/kubepods/pod-y`;
  const other = await runPod(agent, { linux: { cgroup_parent } });
  const creation = fails(
    createContainer(agent, other, forStages("createRuntime")),
    "FAILED_PRECONDITION",
    /is stopped/,
  );
  await until(() => existsSync(join(base, "out", "hook")));
  await agent.client.call("RemovePodSandbox", { pod_sandbox_id: other.id });
  writeFileSync(go, "");
  await creation;
  assert.deepEqual(leftCgroups(`${agent.cgroupRoot}/kubepods`), []);
});

test("an agent that is killed while a creation outlives its pod: the next one takes the cgroup parents away", async () => {
  const go = join(base, "out", "later");
  addHook("createRuntime", `echo here > ${base}/out/late; ${untilThere(go)}`);
  const cgroup_parent = `${agent.cgroupRoot}/kubepods/pod-z`;
  const other = await runPod(agent, { linux: { cgroup_parent } });
  const creation = createContainer(agent, other, forStages("createRuntime")).catch(() => undefined);
  await until(() => existsSync(join(base, "out", "late")));
  await agent.client.call("RemovePodSandbox", { pod_sandbox_id: other.id });
  await agent.kill9();
  await creation;
  await agent.restart();
  writeFileSync(go, "");
  assert.deepEqual(leftCgroups(`${agent.cgroupRoot}/kubepods`), []);
});

test("each stage runs at its point, with its state, in its namespaces", async () => {
  const stages = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
  for (const stage of stages) {
    addHook(
      stage,
      `cat > ${base}/out/${stage}.json; { ${namespaces}; echo $1; } > ${base}/out/${stage}; echo $1 >> ${base}/out/order`,
    );
  }
  // what is mounted is there for createContainer, below the root that the bundle names
  addHook(
    "createContainer",
    `${readFileSync(join(base, "hooks.d", "createContainer.sh"), "utf8").split("\n")[1]}
    bundle=$(sed 's/.*"bundle":"\\([^"]*\\)".*/\\1/' ${base}/out/createContainer.json)
    root=$(sed -n 's/.*"path": "\\(\\/[^"]*pods[^"]*\\)".*/\\1/p' $bundle/config.json | head -n 1)
    ls $root/bin/busybox > ${base}/out/root; grep -c " $root/proc " /proc/self/mountinfo >> ${base}/out/root
    echo made > $root/from-hook`,
  );
  const before = [...ofHost];
  const id = await createContainer(agent, pod, forStages(...stages));
  assert.deepEqual(told("order").trim().split("\n"), ["prestart", "createRuntime", "createContainer"]);
  const state = (stage: string) => JSON.parse(told(`${stage}.json`)) as State;
  const lines = (stage: string) => told(stage).trim().split("\n");
  for (const stage of ["prestart", "createRuntime"]) assert.deepEqual(lines(stage), [...before, stage], stage);
  const inside = lines("createContainer");
  const { pid } = state("createRuntime");
  for (const [index, name] of ["net", "mnt", "pid", "uts"].entries()) {
    assert.notEqual(inside[index], before[index], name);
    assert.equal(inside[index], readlinkSync(`/proc/${pid}/ns/${name}`), name);
  }
  assert.deepEqual(
    [state("createRuntime").id, state("createRuntime").status, state("createContainer").pid],
    [id, "creating", 1],
  );
  assert.match(told("root"), /\/bin\/busybox\n1\n$/);

  await agent.client.call("StartContainer", { container_id: id });
  assert.equal(state("poststart").status, "running");
  assert.deepEqual(lines("poststart"), [...before, "poststart"]);
  assert.equal(await out(agent, id, "cat /from-hook"), "made");
  await agent.client.call("RemoveContainer", { container_id: id });
  assert.deepEqual([state("poststop").status, state("poststop").id], ["stopped", id]);
  assert.ok(!existsSync(state("poststop").bundle));
});

test("startContainer runs inside, as the container's user, before the program", async () => {
  const program = "/tmp/hook";
  writeFileSync(
    join(base, "hooks.d", "start.json"),
    JSON.stringify({
      version: "1.0.0",
      hook: {
        path: "/bin/sh",
        args: ["sh", "-c", `{ cat; echo; id -u; grep CapEff /proc/self/status; } > ${program}`],
      },
      when: { annotations: { "^test$": "start" } },
      stages: ["startContainer"],
    }),
  );
  const security_context = { run_as_user: { value: 1000 as never } };
  const id = await runContainer(agent, pod, { ...forStages("start"), linux: { security_context } });
  const [state, uid, capabilities] = (await out(agent, id, `cat ${program}`)).split("\n");
  const { pid, status } = JSON.parse(state ?? "") as State;
  assert.deepEqual([status, uid, pid], ["created", "1000", 1]);
  assert.match(capabilities ?? "", /0000000000000000$/);
});

test("a hook that fails stops the creation or the start, with what it wrote; nothing is left", async () => {
  for (const stage of ["createRuntime", "createContainer"]) {
    addHook(stage, "echo no license >&2; exit 7");
    await fails(
      createContainer(agent, pod, forStages(stage)),
      stage === "createRuntime" ? "FAILED_PRECONDITION" : "INVALID_ARGUMENT",
      new RegExp(`${stage} hook.*${stage}\\.sh.* ended with code 7: no license`),
    );
  }
  addHook("poststop", `echo $1 > ${base}/out/poststop`);
  await fails(createContainer(agent, pod, forStages("createRuntime", "poststop")), "FAILED_PRECONDITION", /code 7/);
  assert.equal(told("poststop"), "poststop\n");
  rmSync(join(base, "out", "poststop"));
  await fails(createContainer(agent, pod, forStages("createContainer", "poststop")), "INVALID_ARGUMENT", /code 7/);
  assert.equal(told("poststop"), "poststop\n");

  addHook("createContainer", "echo slow; sleep 100", { timeout: 1 });
  await fails(
    createContainer(agent, pod, forStages("createContainer")),
    "INVALID_ARGUMENT",
    /not done within 1000 ms: slow/,
  );

  writeFileSync(
    join(base, "hooks.d", "start.json"),
    JSON.stringify({
      version: "1.0.0",
      hook: { path: "/bin/none" },
      when: { always: true },
      stages: ["startContainer"],
    }),
  );
  const id = await createContainer(agent, pod);
  await fails(
    agent.client.call("StartContainer", { container_id: id }),
    "INVALID_ARGUMENT",
    /startContainer hook.*\/bin\/none.*ENOENT/,
  );
  assert.equal((await containerStatus(agent, id)).reason, "StartError");
});

test("poststart and poststop that fail are only told in the log", async () => {
  for (const stage of ["poststart", "poststop"]) addHook(stage, `echo ${stage} is broken >&2; exit 1`);
  const id = await runContainer(agent, pod, forStages("poststart", "poststop"));
  assert.equal(await out(agent, id, "echo runs"), "runs");
  await agent.client.call("RemoveContainer", { container_id: id });
  for (const stage of ["poststart", "poststop"]) assert.match(agent.logs(), new RegExp(`${stage} is broken`));
});

test("in a PID namespace of others createContainer runs before it is joined, else as ever", async () => {
  addHook("createRuntime", `cat > ${base}/out/runtime.json`);
  const script = `cat > ${base}/out/state.json; { ${namespaces}; } > ${base}/out/hook; echo made > ${pod.id}`;
  const target_id = await runContainer(agent, pod);
  const { NODE } = NamespaceMode;
  const modes = { network: NODE, pid: NODE, ipc: NODE };
  const ofHostPid = await runPod(agent, { linux: { security_context: { namespace_options: modes } } });
  const cases: [RunningPod, object][] = [
    [pod, { pid: NamespaceMode.POD }],
    [pod, { pid: NamespaceMode.TARGET, target_id }],
    [ofHostPid, modes],
  ];
  for (const [where, namespace_options] of cases) {
    const root = join(agent.paths.run, "pods", where.id);
    addHook("createContainer", script.replace(pod.id, `${root}/from-hook`));
    const linux = { security_context: { namespace_options } };
    const id = await createContainer(agent, where, { ...forStages("createRuntime", "createContainer"), linux });
    const { pid, status } = JSON.parse(told("state.json")) as State;
    assert.equal(status, "creating");
    assert.equal((JSON.parse(told("runtime.json")) as State).pid, pid);
    const [net, mnt, , uts] = told("hook").trim().split("\n");
    for (const [name, found] of [
      ["net", net],
      ["mnt", mnt],
      ["uts", uts],
    ]) {
      assert.equal(found, readlinkSync(`/proc/${pid}/ns/${name}`), name);
    }
    assert.notEqual(mnt, ofHost[1]);
    await agent.client.call("StartContainer", { container_id: id });
    assert.equal(await out(agent, id, "cat /from-hook"), "made");
    if (namespace_options !== modes) {
      const other = "target_id" in namespace_options ? target_id : id;
      assert.equal(await namespaceOf(agent, id, "pid"), await namespaceOf(agent, other, "pid"));
    }
    await agent.client.call("RemoveContainer", { container_id: id });
  }
});

test("with a user namespace: each stage runs, createContainer only in a PID namespace of the container's own", async (t) => {
  if (!supportsUserNamespaces(kernelFeatures())) return t.skip("this kernel has no idmapped overlay and tmpfs mounts");
  chmodSync(base, 0o755);
  chmodSync(join(base, "out"), 0o777);
  const stages = ["createRuntime", "createContainer", "poststart", "poststop"];
  for (const stage of stages) addHook(stage, `cat > /dev/null; cat /proc/self/uid_map > ${base}/out/${stage}`);
  writeFileSync(
    join(base, "hooks.d", "start.json"),
    JSON.stringify({
      version: "1.0.0",
      hook: { path: "/bin/sh", args: ["sh", "-c", "cat /proc/self/uid_map > /tmp/map"] },
      when: { annotations: { "^test$": "createRuntime" } },
      stages: ["startContainer"],
    }),
  );
  const ids = [{ host_id: 300_000, container_id: 0, length: 65_536 }];
  const userns_options = { mode: NamespaceMode.POD, uids: ids, gids: ids };
  const linux = (pid: number) => ({ security_context: { namespace_options: { pid, userns_options } } });
  const users = await runPod(agent, { linux: linux(NamespaceMode.POD) });
  const map = (text: string) => text.trim().split(/\s+/).join(" ");
  const [ours, theirs] = [map(readFileSync("/proc/self/uid_map", "utf8")), "0 300000 65536"];
  for (const pid of [NamespaceMode.CONTAINER, NamespaceMode.POD]) {
    const asked = stages.filter((stage) => pid === NamespaceMode.CONTAINER || stage !== "createContainer");
    const id = await runContainer(agent, users, { ...forStages(...asked), linux: linux(pid) });
    assert.equal(map(await out(agent, id, "cat /tmp/map")), theirs);
    await agent.client.call("RemoveContainer", { container_id: id });
    for (const stage of asked) {
      assert.equal(map(told(stage)), stage === "createContainer" ? theirs : ours, stage);
      rmSync(join(base, "out", stage));
    }
  }
  await fails(
    createContainer(agent, users, { ...forStages("createContainer"), linux: linux(NamespaceMode.POD) }),
    "FAILED_PRECONDITION",
    /createContainer hooks need a container with a PID namespace of its own where the pod has a user namespace/,
  );
});

test("hooks of CDI devices; a hook file that cannot be used stops every creation", async () => {
  writeFileSync(
    join(base, "cdi", "x.json"),
    JSON.stringify({
      cdiVersion: "0.8.0",
      kind: "vendor.example/dev",
      devices: [
        {
          name: "x",
          containerEdits: {
            hooks: [{ hookName: "createContainer", path: "/bin/sh", args: ["sh", "-c", `cat > ${base}/out/cdi`] }],
          },
        },
      ],
    }),
  );
  const id = await createContainer(agent, pod, { CDI_devices: [{ name: "vendor.example/dev=x" }] });
  assert.equal((JSON.parse(told("cdi")) as State).id, id);
  writeFileSync(join(base, "hooks.d", "broken.json"), "{");
  await fails(createContainer(agent, pod), "FAILED_PRECONDITION", /the hook file .*broken\.json cannot be used/);
});

test("killed in the middle of a creation, the agent takes back the directory that it made for a volume, and runs the poststop hooks", async () => {
  const go = join(base, "go");
  addHook("createRuntime", `echo > ${base}/out/begun; ${untilThere(go)}`);
  addHook("poststop", `cat > ${base}/out/poststop-of-half`);
  const volume = join(base, "volumes", "missing");
  const kept = join(base, "kept");
  mkdirSync(kept);
  const labels = { "io.kubernetes.container.name": "c" };
  const creation = createContainer(agent, pod, {
    ...forStages("createRuntime", "poststop"),
    labels,
    mounts: [volume, kept].map((host_path, index) => ({ container_path: `/m${index}`, host_path })),
  });
  creation.catch(() => undefined);
  while (!existsSync(join(base, "out", "begun"))) await sleep(10);
  assert.ok(existsSync(volume));
  await agent.kill9();
  await agent.restart();
  writeFileSync(go, "");
  assert.ok(!existsSync(join(base, "volumes")));
  assert.ok(existsSync(kept));
  assert.equal((JSON.parse(told("poststop-of-half")) as State).status, "stopped");
  const filter = { label_selector: labels };
  assert.deepEqual((await agent.client.call("ListContainers", { filter })).containers, []);
});

test("killed while a hook hangs, the agent's successor ends it with all that it started, and nothing that was done", async () => {
  const linux = { cgroup_parent: `${agent.cgroupRoot}/kubepods/pod-h` };
  // one that has ended, and that nobody has reaped yet, has no arguments
  const alive = (name: string) => {
    const file = `/proc/${told(name).trim()}/cmdline`;
    return existsSync(file) && readFileSync(file, "utf8") !== "";
  };
  for (const stage of ["createRuntime", "createContainer", "poststart", "poststop"]) {
    const other = await runPod(agent, { linux });
    // a prestart hook that is done may leave something running
    addHook("prestart", `setsid sleep 4711 > /dev/null 2>&1 & echo $! > ${base}/out/left`);
    const inner = `echo \\$\\$ > ${base}/out/deep; exec sleep 4712`;
    addHook(stage, `setsid sh -c "${inner}" & echo $$ > ${base}/out/hung; wait`);
    const id = stage === "poststop" ? await runContainer(agent, other, forStages("prestart", stage)) : "";
    const calls = id
      ? agent.client.call("RemoveContainer", { container_id: id })
      : runContainer(agent, other, forStages("prestart", stage));
    calls.catch(() => undefined);
    await until(() =>
      ["left", "hung", "deep"].every((name) => existsSync(join(base, "out", name)) && told(name) !== ""),
    );
    const [left, isOfHost] = [Number(told("left")), stage !== "createContainer"];
    try {
      await agent.kill9();
      await calls.catch(() => undefined);
      if (isOfHost) assert.ok(alive("hung") && alive("deep"), stage);
      await agent.restart();
      if (isOfHost) assert.ok(!alive("hung") && !alive("deep"), `${stage}: the hook runs on`);
      assert.ok(alive("left"), `${stage}: what a hook that was done has left is gone`);
    } finally {
      process.kill(left, "SIGKILL");
    }
    // poststop runs again for what is removed now
    addHook(stage, "true");
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: other.id });
    assert.deepEqual(leftCgroups(`${agent.cgroupRoot}/kubepods`), []);
    for (const name of ["out", "hooks.d"]) {
      rmSync(join(base, name), { recursive: true });
      mkdirSync(join(base, name));
    }
  }
});
