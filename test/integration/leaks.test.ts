/** `berth leaks`, on what nobody has a record of; and what the start of an agent takes away of it. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { native } from "../../native/binding.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { vethOf } from "../../sandbox/network/interface-names.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import { findLeft } from "../support/leaks.js";
import { until } from "../support/until.js";
import {
  importBusybox,
  out,
  podStatus,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

interface Leak {
  kind: string;
  subject: string;
  ours: boolean;
  repaired: boolean;
  why_not: string;
}

describe("berth leaks", () => {
  let agent: TestAgent;
  let kept: { pod: RunningPod; container: string };
  const cgroups = openCgroupManager();
  /** an id that no other test has */
  const idOf = (word: string) => createHash("sha256").update(`${process.pid} ${word}`).digest("hex");
  const leaks = async (...args: string[]): Promise<{ code: number | null; found: Leak[] }> => {
    const { code, stdout, stderr } = await runCli(["leaks", "--json", ...args], { BERTH_SOCKET: agent.socket });
    assert.equal(stderr, "");
    return { code, found: (JSON.parse(stdout) as { leaks: Leak[] }).leaks };
  };
  const assertKeptRuns = async () => {
    assert.equal(await out(agent, kept.container, "echo here"), "here");
    assert.equal((await podStatus(agent, kept.pod.id)).state, 0);
  };

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    const pod = await runPod(agent);
    kept = { pod, container: await runContainer(agent, pod, sh("sleep 1000")) };
  });
  after(() => agent.stop());

  it("finds nothing while pods come, run and go", async () => {
    const busy = (async () => {
      for (let round = 0; round < 4; round++) await removePod(agent, await runPod(agent));
    })();
    for (let round = 0; round < 3; round++) assert.deepEqual(await leaks(), { code: 0, found: [] });
    await busy;
  });

  it("finds each kind, and takes all of it away, and nothing else", async () => {
    const { paths, cgroupRoot, slot } = agent;
    const podId = idOf("pod");
    const run = join(paths.run, "pods", podId);
    mkdirSync(join(run, "mounted"), { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "none", join(run, "mounted")]);
    const monitor = spawn(
      process.execPath,
      ["-e", "setInterval(() => {}, 1000)", "--", "--sandbox", podId, "--directory", run],
      { argv0: "/x/berth-monitor", stdio: "ignore" },
    );
    await cgroups.create(`${cgroupRoot}/berth-${podId}`, {});
    writeFileSync(join(paths.netns, `berth-${podId}`), "");
    execFileSync("ip", ["link", "add", vethOf(podId), "master", slot.bridge, "type", "veth"]);
    const rootfs = join(paths.root, "containers", idOf("container"));
    mkdirSync(rootfs);

    const wanted = [
      ["process", String(monitor.pid)],
      ["namespace", join(paths.netns, `berth-${podId}`)],
      ["interface", vethOf(podId)],
      ["cgroup", `${cgroupRoot}/berth-${podId}`],
      ["mount", join(run, "mounted")],
      ["directory", run],
      ["directory", rootfs],
    ];
    const { code, found } = await leaks();
    assert.deepEqual(
      found.map(({ kind, subject }) => [kind, subject]),
      wanted,
    );
    assert.ok(found.every(({ ours, repaired }) => ours && !repaired));
    assert.equal(code, 1);

    const text = await runCli(["leaks"], { BERTH_SOCKET: agent.socket });
    assert.match(text.stdout, /^interface\s+this agent\s+bth\w+\s+an interface on the bridge/m);

    const repaired = await leaks("--repair");
    assert.deepEqual([repaired.code, repaired.found.filter((leak) => !leak.repaired)], [0, []]);
    assert.deepEqual(await leaks(), { code: 0, found: [] });
    const left = await findLeft({ ...paths, cgroupRoot, bridge: slot.bridge });
    assert.deepEqual(
      left.filter((line) => line.includes(podId) || line.includes(vethOf(podId)) || line.includes(rootfs)),
      [],
    );
    await until(() => monitor.exitCode !== null || monitor.signalCode !== null);
    await assertKeptRuns();
  });

  it("says perhaps of what another agent could have, and nothing of what is young", async () => {
    const pin = join(agent.paths.netns, `berth-${idOf("another's")}`);
    writeFileSync(pin, "");
    assert.deepEqual(await leaks(), { code: 0, found: [] });
    const before = new Date(Date.now() - 120_000);
    utimesSync(pin, before, before);
    const { code, found } = await leaks();
    assert.deepEqual([code, found.map(({ subject, ours }) => [subject, ours])], [1, [[pin, false]]]);
    await agent.restart();
    assert.ok(existsSync(pin), "the start takes only away what is its own for certain");
    assert.equal((await leaks("--repair")).code, 0);
    assert.ok(!existsSync(pin));
  });

  it("does not delete what is mounted in a lost directory", async () => {
    const other = join(agent.paths.base, "precious");
    mkdirSync(other);
    writeFileSync(join(other, "file"), "content");
    const rootfs = join(agent.paths.root, "containers", `.removed-by-hand`);
    mkdirSync(join(rootfs, "here"), { recursive: true });
    execFileSync("mount", ["--bind", other, join(rootfs, "here")]);
    try {
      const { code, found } = await leaks("--repair");
      assert.equal(code, 1);
      assert.match(found[0]?.why_not ?? "", /here is mounted in it; unmount it first/);
      assert.ok(existsSync(join(other, "file")));
    } finally {
      await native.unmount(join(rootfs, "here"));
    }
    assert.equal((await leaks("--repair")).code, 0);
    assert.ok(!existsSync(rootfs));
  });

  it("at its start an agent takes a pod away whose records are gone", async () => {
    const lost = await runPod(agent);
    await runContainer(agent, lost, sh("sleep 1000"));
    await agent.kill9();
    for (const kind of ["pods", "containers"]) {
      const directory = join(agent.paths.root, "state", kind);
      execFileSync("sh", ["-c", `grep -l ${lost.id} "$0"/*.json | xargs rm`, directory]);
    }
    await agent.restart();
    assert.match(agent.logs(), /left by an earlier agent and removed: process of nobody/);
    assert.deepEqual(await leaks(), { code: 0, found: [] });
    await assertKeptRuns();
    rmSync(join(agent.paths.base, "precious"), { recursive: true, force: true });
  });
});
