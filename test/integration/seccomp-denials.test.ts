/** What the kernel's audit records of seccomp becomes a happening of the container. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { berth } from "../../cri-proto/generated/admin.js";
import { native } from "../../native/binding.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { importBusybox, removePod, runContainer, runPod, sh } from "../support/workload.js";

const patienceMs = 30_000;

function whatIsMissing(): string | false {
  try {
    native.watchSeccompDenials(() => {}).close();
    return false;
  } catch (error) {
    return `audit cannot be read here: ${String(error)}`;
  }
}

describe("denials by seccomp", { skip: whatIsMissing() }, () => {
  let agent: TestAgent;
  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
  });
  after(() => agent.stop());

  it("are told with the container, the program and the system call", async () => {
    const told: berth.v1.Happening[] = [];
    const watched = (async () => {
      for await (const happening of agent.client.stream("WatchHappenings", { types: ["seccomp-denied"] })) {
        told.push(happening as berth.v1.Happening);
        if (new Set(told.map(({ details }) => details["outcome"])).size === 2) return;
      }
    })();
    const localhost_ref = join(agent.paths.base, "profile.json");
    const syscalls = [
      { names: ["umask"], action: "SCMP_ACT_LOG" },
      { names: ["mkdir", "mkdirat"], action: "SCMP_ACT_KILL_PROCESS" },
    ];
    writeFileSync(localhost_ref, JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls }));
    const pod = await runPod(agent);
    const linux = { security_context: { seccomp: { profile_type: 2, localhost_ref } } };
    const logged = await runContainer(agent, pod, { ...sh("umask 022; exec sleep 1000"), linux });
    const killed = await runContainer(agent, pod, { command: ["mkdir", "/tmp/x"], linux });
    const isLate = await Promise.race([watched, sleep(patienceMs, true, { ref: false })]);
    assert.ok(!isLate, JSON.stringify(told));
    const of = (id: string) => told.find(({ container_id }) => container_id === id);
    assert.equal(of(logged)?.message, "sh has called umask, which its seccomp profile wants to be told");
    assert.match(of(killed)?.message ?? "", /^seccomp has killed mkdir, which called mkdir(at)?$/);
    assert.equal(of(killed)?.pod_uid, pod.config.metadata?.uid);
    await removePod(agent, pod);
  });
});
