/** A container's life through the CRI: create, start, stop, remove, lists, and what it is started with. */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups, leftProcesses } from "../support/leaks.js";
import {
  ContainerState,
  containerConfig,
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  out,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  Signal,
  sh,
  untilWritten,
  waitExited,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
let busybox: string;

before(async () => {
  agent = await startAgent();
  busybox = await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

afterEach(async () => {
  const { containers } = await agent.client.call("ListContainers", {});
  await Promise.all(containers.map(({ id }) => agent.client.call("RemoveContainer", { container_id: id ?? "" })));
  // the pod's own monitor is all that is left
  const processes = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot });
  assert.equal(processes.length, 1, JSON.stringify(processes));
});

function stop(id: string, seconds: number): Promise<unknown> {
  return agent.client.call("StopContainer", { container_id: id, timeout: Long.fromNumber(seconds) });
}

describe("life", () => {
  test("created, running, exited, removed; the times are in order", async () => {
    const labels = { "app.kubernetes.io/name": "x" };
    const annotations = { note: "ü" };
    const id = await createContainer(agent, pod, { ...sh("sleep 0.2; exit 7"), labels, annotations });
    const created = await containerStatus(agent, id);
    assert.equal(created.state, ContainerState.CONTAINER_CREATED);
    assert.equal(String(created.started_at), "0");
    assert.deepEqual([created.labels, created.annotations], [labels, annotations]);
    assert.equal(created.image_id, busybox);
    // a name by which the very image can be pulled again
    assert.match(created.image_ref ?? "", /^berth\.test\/busybox@sha256:/);
    await agent.client.call("StartContainer", { container_id: id });
    assert.equal((await containerStatus(agent, id)).state, ContainerState.CONTAINER_RUNNING);
    const ended = await waitExited(agent, id);
    assert.deepEqual([ended.exit_code, ended.reason], [7, "Error"]);
    const [createdAt, startedAt, finishedAt] = [ended.created_at, ended.started_at, ended.finished_at].map((time) =>
      BigInt(String(time)),
    );
    assert.ok(createdAt && startedAt && finishedAt);
    assert.ok(createdAt <= startedAt && startedAt + 200_000_000n <= finishedAt && finishedAt <= nowNs());
    await agent.client.call("RemoveContainer", { container_id: id });
    await fails(agent.client.call("ContainerStatus", { container_id: id }), "NOT_FOUND", new RegExp(id));
  });

  test("exit codes and reasons", async () => {
    const cases: [script: string, code: number, reason: string][] = [
      ["true", 0, "Completed"],
      ["exit 255", 255, "Error"],
      ["kill -9 $$", 137, "Error"],
      ["kill -SEGV $$", 139, "Error"],
    ];
    for (const [script, code, reason] of cases) {
      // PID 1 of a namespace takes no signal that it has no handler for: a child does it
      const { status } = await runToEnd(agent, pod, sh(`sh -c '${script}'; exit $?`));
      assert.deepEqual([status.exit_code, status.reason], [code, reason], script);
    }
  });

  test("a container that is started twice, or has ended, cannot be started", async () => {
    const id = await runContainer(agent, pod);
    await fails(agent.client.call("StartContainer", { container_id: id }), "FAILED_PRECONDITION", /running/);
    await stop(id, 0);
    await fails(agent.client.call("StartContainer", { container_id: id }), "FAILED_PRECONDITION", /exited/);
  });

  test("remove takes a created and a running one, twice, and one that never was", async () => {
    const created = await createContainer(agent, pod);
    const running = await runContainer(agent, pod);
    for (const container_id of [created, running, created, "f".repeat(64)]) {
      await agent.client.call("RemoveContainer", { container_id });
    }
  });

  test("two calls for the same container at once make one", async () => {
    const config = containerConfig();
    const question = { pod_sandbox_id: pod.id, config, sandbox_config: pod.config };
    const answers = await Promise.all([1, 2].map(() => agent.client.call("CreateContainer", question)));
    assert.equal(answers[0]?.container_id, answers[1]?.container_id);
    await fails(agent.client.call("CreateContainer", question), "ALREADY_EXISTS", /config\.metadata/);
  });

  test("every filter, and unique prefixes", async () => {
    const [one, two] = [await runContainer(agent, pod, { labels: { a: "1" } }), await createContainer(agent, pod)];
    const other = await runPod(agent);
    const three = await createContainer(agent, other);
    const list = async (filter: object) =>
      (await agent.client.call("ListContainers", { filter })).containers.map(({ id }) => id).sort();
    assert.deepEqual(await list({}), [one, two, three].sort());
    assert.deepEqual(await list({ id: one }), [one]);
    assert.deepEqual(await list({ id: one.slice(0, 16) }), [one]);
    assert.deepEqual(await list({ pod_sandbox_id: pod.id }), [one, two].sort());
    assert.deepEqual(await list({ state: { state: ContainerState.CONTAINER_RUNNING } }), [one]);
    assert.deepEqual(await list({ label_selector: { a: "1" } }), [one]);
    assert.deepEqual(await list({ label_selector: { a: "2" } }), []);
    assert.equal((await containerStatus(agent, one.slice(0, 20))).id, one);
    await removePod(agent, other);
  });
});

describe("stop", () => {
  test("a container that handles the signal ends with its own code, at once", async () => {
    const id = await runContainer(agent, pod, sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done"));
    await untilWritten(agent, id, "ready");
    const begun = Date.now();
    await stop(id, 10);
    assert.ok(Date.now() - begun < 8_000);
    assert.equal((await containerStatus(agent, id)).exit_code, 3);
  });

  test("a container that ignores it is killed after the grace period, with all that it has started", async () => {
    const id = await runContainer(agent, pod, sh("trap '' TERM; setsid sleep 1000 & sleep 1000 & echo ready; wait"));
    await untilWritten(agent, id, "ready");
    const begun = Date.now();
    await stop(id, 1);
    const tookMs = Date.now() - begun;
    assert.ok(tookMs >= 1_000 && tookMs < 5_000, `${tookMs} ms`);
    assert.equal((await containerStatus(agent, id)).exit_code, 137);
    assert.equal(leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).length, 1);
  });

  test("without grace it is killed at once; stopping again, or one that is not there, is success", async () => {
    const id = await runContainer(agent, pod, sh("trap '' TERM; while :; do sleep 1; done"));
    const begun = Date.now();
    for (const container_id of [id, id, "f".repeat(64)]) await stop(container_id, 0);
    assert.ok(Date.now() - begun < 5_000);
    assert.equal((await containerStatus(agent, id)).exit_code, 137);
  });

  for (const grace of [0, 1]) {
    test(`one that is just being started is stopped, too, with a grace period of ${grace} s`, async () => {
      for (let round = 0; round < 3; round++) {
        const id = await createContainer(agent, pod);
        const started = agent.client.call("StartContainer", { container_id: id }).then(
          () => "started",
          (error: { code: number }) => status[error.code],
        );
        await stop(id, grace);
        assert.equal((await containerStatus(agent, id)).state, ContainerState.CONTAINER_EXITED);
        assert.match((await started) ?? "", /^(started|FAILED_PRECONDITION)$/);
      }
    });
  }

  test("the image's stop signal, and the request's, which wins", async () => {
    await importBusybox(agent, "berth.test/signal:1", { config: { StopSignal: "SIGUSR1" } });
    const script = sh(
      "trap 'exit 10' USR1; trap 'exit 12' USR2; trap 'exit 15' TERM; echo ready; while :; do sleep 0.02; done",
    );
    const image = { image: "berth.test/signal:1" };
    const byImage = await runContainer(agent, pod, { ...script, image });
    const byRequest = await runContainer(agent, pod, { ...script, image, stop_signal: Signal.SIGNAL_SIGUSR2 });
    for (const id of [byImage, byRequest]) await untilWritten(agent, id, "ready");
    await Promise.all([stop(byImage, 10), stop(byRequest, 10)]);
    assert.equal((await containerStatus(agent, byImage)).exit_code, 10);
    assert.equal((await containerStatus(agent, byRequest)).exit_code, 12);
  });

  test("one that somebody has frozen is stopped and removed as ever, and so is its pod", async () => {
    const paths = (id: string) =>
      leftCgroups(`${agent.cgroupRoot}/${id}`).flatMap((directory) => [
        { file: join(directory, "freezer.state"), frozen: "FROZEN" },
        { file: join(directory, "cgroup.freeze"), frozen: "1" },
      ]);
    for (const ends of [
      (container_id: string) => agent.client.call("StopContainer", { container_id, timeout: Long.fromNumber(1) }),
      (container_id: string) => agent.client.call("RemoveContainer", { container_id }),
      (_: string, pod_sandbox_id: string) => agent.client.call("StopPodSandbox", { pod_sandbox_id }),
    ]) {
      const own = await runPod(agent);
      const id = await runContainer(agent, own, { command: ["sleep", "1000"] });
      const files = paths(id).filter(({ file }) => existsSync(file));
      assert.ok(files.length > 0);
      for (const { file, frozen } of files) writeFileSync(file, frozen);
      const begun = performance.now();
      await ends(id, own.id);
      assert.ok(performance.now() - begun < 8_000);
      await removePod(agent, own);
    }
  });
});

describe("what is run", () => {
  test("command and args replace the image's entrypoint and command, as Kubernetes says", async () => {
    await importBusybox(agent, "berth.test/entry:1", { config: { Entrypoint: ["echo", "entry"], Cmd: ["cmd"] } });
    const image = { image: "berth.test/entry:1" };
    const output = async (more: object) => (await runToEnd(agent, pod, { image, command: [], ...more })).output;
    assert.equal(await output({}), "entry cmd\n");
    assert.equal(await output({ args: ["arg"] }), "entry arg\n");
    assert.equal(await output({ command: ["echo", "x"] }), "x\n");
    assert.equal(await output({ command: ["echo"], args: ["a b", "$HOME"] }), "a b $HOME\n");
  });

  test("environment: the image's, then the request's, and a HOME", async () => {
    await importBusybox(agent, "berth.test/env:1", { config: { Env: ["PATH=/bin", "A=image", "B=image"] } });
    const { output } = await runToEnd(agent, pod, {
      image: { image: "berth.test/env:1" },
      command: ["env"],
      envs: [
        { key: "B", value: Buffer.from("request") },
        { key: "C", value: Buffer.from("x=y\tü") },
      ],
    });
    const env = output.trimEnd().split("\n");
    for (const line of ["A=image", "B=request", "C=x=y\tü", "PATH=/bin", "HOME=/root"]) {
      assert.ok(env.includes(line), `${line} in ${JSON.stringify(env)}`);
    }
    assert.equal(env.filter((line) => line.startsWith("B=")).length, 1);
  });

  test("the working directory: the image's, the request's, made when it is missing", async () => {
    await importBusybox(agent, "berth.test/dir:1", { config: { WorkingDir: "/home/app" } });
    const image = { image: "berth.test/dir:1" };
    assert.equal((await runToEnd(agent, pod, { image, command: ["pwd"] })).output, "/home/app\n");
    assert.equal(
      (await runToEnd(agent, pod, { image, command: ["pwd"], working_dir: "/new/one" })).output,
      "/new/one\n",
    );
  });

  test("the image's volumes are directories, made when they are missing; a file can be mounted there", async () => {
    const Volumes = { "/data/deep": {}, "/etc/passwd": {}, "/bin/sh/x": {}, "/conf": {} };
    await importBusybox(agent, "berth.test/volumes:1", { config: { Volumes } });
    const image = { image: "berth.test/volumes:1" };
    const file = join(agent.paths.base, "conf");
    writeFileSync(file, "mounted\n");
    const mounts = [{ container_path: "/conf", host_path: file }];
    const script = "stat -c '%A %u %g' /data/deep; touch /data/deep/x && cat /conf";
    const { output } = await runToEnd(agent, pod, { image, mounts, ...sh(script) });
    assert.equal(output, "drwxr-xr-x 0 0\nmounted\n");
    const readonly = { linux: { security_context: { readonly_rootfs: true } } };
    assert.equal(
      (await runToEnd(agent, pod, { image, ...readonly, ...sh("cd /data/deep && pwd") })).output,
      "/data/deep\n",
    );
  });

  test("a container writes to its own root only", async () => {
    const [one, two] = [await runContainer(agent, pod), await runContainer(agent, pod)];
    await out(agent, one, "echo changed > /etc/os-release; rm /etc/group; mkdir /only-here");
    assert.match(await out(agent, two, ["cat", "/etc/os-release"]), /berth-test/);
    assert.equal((await exec(agent, two, "test -e /only-here")).exitCode, 1);
    assert.match(await out(agent, two, ["cat", "/etc/group"]), /nogroup/);
  });

  test("the init has no descriptors beyond its standard ones", async () => {
    const { output } = await runToEnd(agent, pod, { command: ["ls", "/proc/self/fd"] });
    // 3 is the directory that ls itself reads
    assert.equal(output, "0\n1\n2\n3\n");
  });
});

describe("bad input leaves nothing", () => {
  const bad: [name: string, more: object, code: "INVALID_ARGUMENT" | "NOT_FOUND", sentence: RegExp][] = [
    ["no metadata", { metadata: null }, "INVALID_ARGUMENT", /config\.metadata is missing/],
    ["no name", { metadata: {} }, "INVALID_ARGUMENT", /config\.metadata\.name is missing/],
    ["no image", { image: null }, "INVALID_ARGUMENT", /config\.image is missing/],
    ["an image that is not there", { image: { image: "no/such:1" } }, "NOT_FOUND", /no\/such:1/],
    ["a user who is not there", user({ run_as_username: "ghost" }), "INVALID_ARGUMENT", /ghost/],
    ["a group without a user", user({ run_as_group: { value: 5 } }), "INVALID_ARGUMENT", /run_as_group/],
    [
      "a mount whose source is not there",
      { mounts: [{ container_path: "/data", host_path: "/no/such/path" }] },
      "INVALID_ARGUMENT",
      /\/no\/such\/path/,
    ],
    [
      "a mount without a target",
      { mounts: [{ host_path: "/tmp" }] },
      "INVALID_ARGUMENT",
      /mounts\[0\]\.container_path/,
    ],
    ["a mount over /proc", { mounts: [{ container_path: "/proc", host_path: "/tmp" }] }, "INVALID_ARGUMENT", /\/proc/],
    ["a memory limit below the least", resources({ memory_limit_in_bytes: 1024 }), "INVALID_ARGUMENT", /memory_limit/],
    ["a CPU quota below the least", resources({ cpu_quota: 1, cpu_period: 100000 }), "INVALID_ARGUMENT", /cpu_quota/],
    ["a CPU that is not there", resources({ cpuset_cpus: "4095" }), "INVALID_ARGUMENT", /cpuset_cpus/],
    ["a capability that is none", user({ capabilities: { add_capabilities: ["FLY"] } }), "INVALID_ARGUMENT", /FLY/],
    ["a log path that climbs", { log_path: "../../x" }, "INVALID_ARGUMENT", /log_path/],
    ["a NUL in an argument", { command: ["a\0b"] }, "INVALID_ARGUMENT", /command/],
    ["an environment variable without a name", { envs: [{ key: "", value: "x" }] }, "INVALID_ARGUMENT", /envs\[0\]/],
    ["a working directory that is not absolute", { working_dir: "x" }, "INVALID_ARGUMENT", /working_dir/],
  ];
  for (const [name, more, code, sentence] of bad) {
    test(name, async () => {
      await fails(createContainer(agent, pod, more), code, sentence);
      assert.deepEqual((await agent.client.call("ListContainers", {})).containers, []);
    });
  }

  test("no pod, no config, an unknown or stopped pod, no id", async () => {
    const config = containerConfig();
    await fails(agent.client.call("CreateContainer", { config }), "INVALID_ARGUMENT", /pod_sandbox_id is missing/);
    await fails(
      agent.client.call("CreateContainer", { pod_sandbox_id: pod.id }),
      "INVALID_ARGUMENT",
      /config is missing/,
    );
    await fails(agent.client.call("CreateContainer", { pod_sandbox_id: "f".repeat(64), config }), "NOT_FOUND", /ffff/);
    const stopped = await runPod(agent);
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: stopped.id });
    await fails(createContainer(agent, stopped), "FAILED_PRECONDITION", new RegExp(stopped.id));
    await removePod(agent, stopped);
    for (const call of ["StartContainer", "StopContainer", "RemoveContainer", "ContainerStatus"] as const) {
      await fails(agent.client.call(call, {}), "INVALID_ARGUMENT", /container_id is missing/);
    }
  });

  test("a program that is not there, or cannot be executed, fails the start and names it", async () => {
    const missing = await createContainer(agent, pod, { command: ["no-such-program"] });
    await fails(agent.client.call("StartContainer", { container_id: missing }), "INVALID_ARGUMENT", /no-such-program/);
    const status = await containerStatus(agent, missing);
    assert.deepEqual([status.state, status.reason], [ContainerState.CONTAINER_EXITED, "StartError"]);
    const directory = await createContainer(agent, pod, { command: ["/etc"] });
    await fails(agent.client.call("StartContainer", { container_id: directory }), "INVALID_ARGUMENT", /\/etc/);
    const data = await createContainer(agent, pod, { command: ["/etc/passwd"] });
    await fails(agent.client.call("StartContainer", { container_id: data }), "INVALID_ARGUMENT", /\/etc\/passwd/);
  });
});

function user(security_context: object): object {
  return { linux: { security_context } };
}

function resources(of: object): object {
  return { linux: { resources: of } };
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
