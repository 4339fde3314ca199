/**
 * Pods and containers of every kind, and whatever the CRI allows done to them, by several clients at once that lose patience,
 * with an agent that is killed, ended, started, and monitors that are killed. Every answer must be one that an agent
 * may give; at the end nothing may be left. It searches as long as BERTH_CHURN_SECONDS says; BERTH_CHURN_SEED makes the same
 * choices again (not the same moments).
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { kernelFeatures } from "../../native/features.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { Caller, Tally } from "../support/churn/caller.js";
import { EventOrder } from "../support/churn/event-order.js";
import { handlers, otherImage } from "../support/churn/specs.js";
import { type Churn, work } from "../support/churn/worker.js";
import { Random } from "../support/comparison/random.js";
import { buildBusyboxImage, writeOciLayout } from "../support/image-builder.js";
import {
  busyboxName,
  ContainerState,
  hostPidOf,
  importBusybox,
  PodSandboxState,
  readLog,
  removePod,
  runPod,
} from "../support/workload.js";

const asked = process.env["BERTH_CHURN_SECONDS"];
const seconds = Number(asked ?? 8);
const seed = Number(process.env["BERTH_CHURN_SEED"] ?? randomInt(1_000_000));
const workers = 8;
const isEmulated = readFileSync("/proc/cpuinfo", "utf8").includes("QEMU");
const skip = isEmulated
  ? "an emulated processor does next to nothing between two kills of the agent"
  : asked === undefined && "a search for what nobody has thought of: BERTH_CHURN_SECONDS=20 does it";

let agent: TestAgent;
let layout: string;
/** a mount that others follow, as the kubelet's directory is one */
let volume: string;

before(async () => {
  agent = await startAgent();
  const config = Object.entries(handlers).map(([name, path]) => `[runtimes.${name}]\npath = "${path}"\n`);
  const at = (name: string) => join(agent.paths.base, name);
  writeFileSync(at("config.toml"), config.join(""));
  mkdirSync(at("hooks.d"));
  volume = mkdtempSync(join(tmpdir(), "berth-churn-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "mode=0777", "churn", volume]);
  execFileSync("mount", ["--make-shared", volume]);
  for (const stage of ["createRuntime", "createContainer", "poststart", "poststop"]) {
    const hook = { path: "/bin/sh", args: ["sh", "-c", "cat > /dev/null; sleep 0.02"] };
    const when = { annotations: { "^hooks$": `^(all|${stage})$` } };
    writeFileSync(at(`hooks.d/${stage}.json`), JSON.stringify({ version: "1.0.0", hook, when, stages: [stage] }));
  }
  await agent.restart({ "hooks-dir": at("hooks.d") });
  await importBusybox(agent);
  layout = at("layout");
  const layers = [1, 2].map((number) => [{ path: `other-${number}`, content: Buffer.alloc(1_000_000, number) }]);
  await writeOciLayout(layout, await buildBusyboxImage({ layers }), otherImage);
});

after(async () => {
  try {
    await agent.stop();
  } finally {
    execFileSync("umount", ["--lazy", volume]);
    rmdirSync(volume);
  }
});

/** What the agent's are, without their numbers and ids. */
function descriptors(): string[] {
  const directory = `/proc/${agent.pid}/fd`;
  return readdirSync(directory).map((fd) => readlinkSync(join(directory, fd)).replace(/[0-9a-f]{64}|\d+/g, "*"));
}

/** As the agent knows them: what a monitor is about to make a container of has its name, too. */
async function monitors(): Promise<number[]> {
  const { items } = await agent.client.call("ListPodSandbox", {
    filter: { state: { state: PodSandboxState.SANDBOX_READY } },
  });
  const pids = items.map(async ({ id }) => {
    const { info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: id ?? "", verbose: true });
    return (JSON.parse(info["info"] ?? "{}") as { pid?: number }).pid ?? 0;
  });
  return (await Promise.all(pids.map((pid) => pid.catch(() => 0)))).filter((pid) => pid !== 0);
}

/** Inits of containers that run: what ends while it is made may fail its creation. */
async function programs(): Promise<number[]> {
  const running = { state: { state: ContainerState.CONTAINER_RUNNING } };
  const { containers } = await agent.client.call("ListContainers", { filter: running });
  const pids = containers.map(({ id }) => hostPidOf(agent, id ?? "").catch(() => 0));
  return (await Promise.all(pids)).filter((pid) => pid !== 0);
}

/** Nothing when there is none, or it has ended. */
function signal(pid: number | undefined, name: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, name);
  } catch {
    // it has ended
  }
}

/** Without what may be another agent's that uses the same place. */
const ownLeaks = async () => (await agent.client.call("FindLeaks", {})).leaks.filter(({ ours }) => ours);

const mishaps: Record<string, (random: Random) => Promise<void>> = {
  "a monitor is killed": async (random) => signal(random.pick(await monitors()), "SIGKILL"),
  "a program is killed": async (random) => signal(random.pick(await programs()), "SIGKILL"),
  "a monitor stands still": async (random) => {
    const monitor = random.pick(await monitors());
    signal(monitor, "SIGSTOP");
    await sleep(random.whole(0, 900));
    signal(monitor, "SIGCONT");
  },
};

test(`${seconds} s of everything at once leave nothing; BERTH_CHURN_SEED=${seed}`, { skip }, async (context) => {
  const random = new Random(seed);
  const tally = new Tally();
  const events = new EventOrder();
  const churn: Churn = {
    agent,
    caller: new Caller(agent.socket, tally),
    tally,
    volume,
    layout,
    isAway: () => isAway,
    usersPossible: supportsUserNamespaces(kernelFeatures()),
    plans: new Map(),
    containers: new Map(),
    ends: new Map(),
    states: new Map(),
  };
  let listening = events.listen(agent.client);
  let isAway = false;
  const again = async () => {
    await agent.restart();
    await listening;
    listening = events.listen(agent.client);
    churn.caller.close();
    churn.caller = new Caller(agent.socket, tally);
    isAway = false;
  };
  const stop = new AbortController();
  const working = Array.from({ length: workers }, (_, number) =>
    work(churn, new Random(seed * workers + number), stop.signal),
  );
  const end = Date.now() + seconds * 1_000;
  try {
    while (Date.now() < end) {
      await sleep(random.whole(0, 2_000));
      assert.ok(agent.isAlive(), `the agent has ended:\n${agent.logs().slice(-4_000)}`);
      const what = random.pick(["the agent is killed", "the agent ends", ...Object.keys(mishaps)]);
      tally.count(what);
      isAway = what.startsWith("the agent");
      if (what === "the agent is killed") await agent.kill9();
      if (what === "the agent ends") assert.equal(await agent.terminate(), 0, agent.logs().slice(-4_000));
      if (isAway) await again();
      else await mishaps[what]?.(random);
    }
    // on a busy machine none may have had the time between two kills
    for (let tries = 0; !tally.counts.has("StartContainer OK") && tries < 3_000; tries++) await sleep(10);
  } finally {
    stop.abort();
    await Promise.all(working);
    churn.caller.close();
    const lines = [...tally.counts].sort().map(([name, count]) => `${name} ${count}`);
    context.diagnostic(`${events.told} events; ${lines.join("; ")}`);
    if (process.env["BERTH_CHURN_SENTENCES"]) {
      for (const [sentence, count] of [...tally.sentences].sort()) context.diagnostic(`${count} ${sentence}`);
    }
  }
  assert.deepEqual(tally.wrong, []);
  assert.ok(tally.counts.has("StartContainer OK"), "not one container was started");

  // with what is there, and without it
  assert.deepEqual(await ownLeaks(), []);
  const { items } = await agent.client.call("ListPodSandbox", {});
  await Promise.all(items.map(({ id }) => agent.client.call("RemovePodSandbox", { pod_sandbox_id: id ?? "" })));
  assert.deepEqual((await agent.client.call("ListContainers", {})).containers, []);
  await agent.assertNothingLeft();
  assert.deepEqual(await ownLeaks(), []);
  // what a program mounts in a bidirectional volume is the host's to keep
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  assert.deepEqual(
    mounts.filter((line) => line.includes(`${volume}/`) && !line.includes(`${volume}/m `)),
    [],
  );
  assert.deepEqual(events.wrong, []);
  const { images } = await agent.client.call("ListImages", {});
  const names = images.flatMap(({ repo_tags }) => repo_tags);
  assert.ok(
    names.includes(busyboxName) && names.every((name) => [busyboxName, otherImage].includes(name ?? "")),
    `${names}`,
  );
  // its lines are whole, whatever happened
  for (const name of readdirSync(agent.paths.logs, { recursive: true, encoding: "utf8" })) {
    if (name.includes(".log")) await readLog(join(agent.paths.logs, name));
  }
  // the next pass over the cgroups closes the files of those that are gone
  for (let tries = 0; tries < 200 && descriptors().some((what) => what.startsWith("/sys/fs/cgroup/")); tries++) {
    await agent.client.call("ListContainerStats", {});
    await sleep(50);
  }
  const used = descriptors();
  await agent.restart();
  await removePod(agent, await runPod(agent));
  assert.ok(used.length <= descriptors().length + 8, `too many descriptors after the churn: ${used.sort().join(" ")}`);
});
