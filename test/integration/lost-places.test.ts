/** Directories and cgroup mounts that a running agent loses: what the kubelet is told, and that it goes on by itself. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import { lacksFileSystem, makeFileSystem } from "../support/file-systems.js";
import { until } from "../support/until.js";
import {
  ContainerState,
  containerStatus,
  fails,
  importBusybox,
  long,
  out,
  PodSandboxState,
  podStatus,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const readiness = async (agent: TestAgent) => {
  const answer = await agent.client.call("Status", {});
  return answer.status?.conditions?.find(({ type }) => type === "RuntimeReady");
};
const readyz = async (agent: TestAgent): Promise<[code: number, text: string]> => {
  const response = await fetch(new URL("/readyz?verbose", agent.metricsUrl));
  return [response.status, await response.text()];
};

describe("what an agent needs and loses below itself", () => {
  let agent: TestAgent;
  let pod: RunningPod;
  let container: string;
  before(async () => {
    // nothing that is mounted there is seen elsewhere, and the wrapper's own process becomes the agent
    agent = await startAgent({ wrapper: ["unshare", "-m", "--propagation=private"] });
    await importBusybox(agent);
    pod = await runPod(agent);
    container = await runContainer(agent, pod, sh("sleep 1000"));
  });
  after(() => agent.stop());

  const inItsNamespace = (...command: string[]) =>
    execFileSync("nsenter", [`--target=${agent.pid}`, "--mount", ...command], { stdio: "pipe" });
  const readOnly = (path: string) => {
    inItsNamespace("mount", "--bind", path, path);
    inItsNamespace("mount", "-o", "remount,bind,ro", path);
  };
  const memory = openCgroupManager().hierarchies.find(({ controllers }) => controllers.includes("memory"));

  const cases: [name: string, reason: string, message: RegExp, lose: () => void, mend: () => void][] = [
    [
      "a root directory that is read-only",
      "ReadOnlyDirectory",
      /^\S+\/root \(root\) is on a read-only mount \(\S+\/root\): no pod can be started\. Mount it for writing/,
      () => readOnly(agent.paths.root),
      () => inItsNamespace("umount", agent.paths.root),
    ],
    [
      "an images' store that is read-only",
      "ReadOnlyDirectory",
      /^\S+\/root\/layers \(root\) is on a read-only mount \(\S+\): no image can be pulled, or removed\. Mount it/,
      () => readOnly(join(agent.paths.root, "layers")),
      () => inItsNamespace("umount", join(agent.paths.root, "layers")),
    ],
    [
      "a run directory that is read-only",
      "ReadOnlyDirectory",
      /^\S+\/run \(run\) is on a read-only mount/,
      () => readOnly(agent.paths.run),
      () => inItsNamespace("umount", agent.paths.run),
    ],
    [
      "a directory of network namespaces that is read-only",
      "ReadOnlyDirectory",
      /^\S+\/netns \(netns-dir\) is on a read-only mount/,
      () => readOnly(agent.paths.netns),
      () => inItsNamespace("umount", agent.paths.netns),
    ],
    [
      "a root directory that something is mounted over",
      "DirectoryExchanged",
      /^\S+\/root \(root\) is not what the agent began with/,
      () => inItsNamespace("mount", "-t", "tmpfs", "none", agent.paths.root),
      () => inItsNamespace("umount", agent.paths.root),
    ],
    [
      "cgroups that are no longer mounted",
      "CgroupsUnmounted",
      /^no cgroups are mounted any more at \S+: no pod can be started/,
      () => inItsNamespace("mount", "-t", "tmpfs", "none", memory?.mountPoint ?? ""),
      () => inItsNamespace("umount", memory?.mountPoint ?? ""),
    ],
    [
      "cgroups that are mounted read-only",
      "CgroupsReadOnly",
      /^cgroups cannot be made: \S+ is mounted read-only/,
      () => readOnly(memory?.mountPoint ?? ""),
      () => inItsNamespace("umount", memory?.mountPoint ?? ""),
    ],
  ];

  for (const [name, reason, message, lose, mend] of cases) {
    it(`${name}: RuntimeReady is false until it is mended`, async () => {
      assert.equal((await readiness(agent))?.status, true);
      lose();
      try {
        const condition = await readiness(agent);
        assert.equal(condition?.status, false);
        assert.equal(condition?.reason, reason);
        assert.match(condition?.message ?? "", message);
        const [code, text] = await readyz(agent);
        assert.equal(code, 503);
        assert.ok(text.includes(`[-]runtime failed: ${condition?.message}`), text);
        // images that are there will do
        const isPods = !message.source.includes("layers");
        if (!isPods) await removePod(agent, await runPod(agent));
        else
          await assert.rejects(runPod(agent), ({ code, details }: { code: number; details: string }) => {
            if (reason === "ReadOnlyDirectory") {
              assert.equal(code, status.UNAVAILABLE, details);
              assert.match(details, /\w+ \/\S+: .*\bEROFS\b.*: mount it for writing/);
            }
            return true;
          });
        assert.equal(await out(agent, container, "echo runs"), "runs");
      } finally {
        mend();
      }
      assert.equal((await readiness(agent))?.status, true);
      assert.equal((await readyz(agent))[0], 200);
      await removePod(agent, await runPod(agent));
    });
  }

  it("what ends while the disk is read-only is known and can be stopped, and is recorded when it is mended", async () => {
    const ending = await runPod(agent);
    const [first, second] = [
      await runContainer(agent, ending, sh("sleep 1000")),
      await runContainer(agent, ending, sh("sleep 1000")),
    ];
    const states = async () => [(await containerStatus(agent, first)).state, (await podStatus(agent, ending.id)).state];
    readOnly(agent.paths.root);
    try {
      await agent.client.call("StopContainer", { container_id: first, timeout: long(0) });
      assert.deepEqual(await states(), [ContainerState.CONTAINER_EXITED, PodSandboxState.SANDBOX_READY]);
      await agent.client.call("StopPodSandbox", { pod_sandbox_id: ending.id });
      assert.deepEqual(await states(), [ContainerState.CONTAINER_EXITED, PodSandboxState.SANDBOX_NOTREADY]);
      await fails(agent.client.call("RemovePodSandbox", { pod_sandbox_id: ending.id }), "UNAVAILABLE", /EROFS/);
    } finally {
      inItsNamespace("umount", agent.paths.root);
    }
    const record = join(agent.paths.root, "state", "containers", `${first}.json`);
    await until(() => readFileSync(record, "utf8").includes('"exited"'));
    assert.equal((await containerStatus(agent, second)).exit_code, 137);
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: ending.id });
  });

  it("the log and berth events say when it began and when it was over, berth doctor what it is", async () => {
    assert.equal(agent.logs().match(/RuntimeReady is false/g)?.length, cases.length);
    assert.equal(agent.logs().match(/RuntimeReady is true again/g)?.length, cases.length);
    const events = await runCli(["events", "--type", "condition", "--socket", agent.socket]);
    assert.match(events.stdout, /RuntimeReady is false: \S+\/root \(root\) is on a read-only mount/);
    readOnly(agent.paths.root);
    try {
      const config = join(agent.paths.base, "doctor.toml");
      writeFileSync(config, `listen = "${agent.socket}"\nroot = "${agent.paths.root}"\nrun = "${agent.paths.run}"\n`);
      const doctor = await runCli(["doctor", "--config", config, "--no-registries", "--json"]);
      assert.equal(doctor.code, 1);
      assert.match(doctor.stdout, /"id": "ReadOnlyDirectory"/);
    } finally {
      inItsNamespace("umount", agent.paths.root);
    }
  });
});

describe("a disk that the kernel has made read-only", { skip: lacksFileSystem("ext4") ?? false }, () => {
  it("is told of as soon as a record cannot be written, though its mount says nothing of it", async () => {
    const disk = makeFileSystem("ext4", 64);
    const agent = await startAgent({ flags: { root: join(disk.path, "root") } });
    try {
      assert.equal((await readiness(agent))?.status, true);
      execFileSync("mount", ["-o", "remount,errors=remount-ro", disk.path]);
      const device = execFileSync("findmnt", ["-no", "SOURCE", disk.path], { encoding: "utf8" }).trim();
      writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, "a test");
      await assert.rejects(runPod(agent));
      const condition = await readiness(agent);
      assert.equal(condition?.reason, "ReadOnlyDirectory");
      assert.match(condition?.message ?? "", /root \(root\) is on a read-only mount/);
      assert.equal((await readiness(agent))?.status, false);
    } finally {
      await agent.stop();
      await disk.close();
    }
  });
});
