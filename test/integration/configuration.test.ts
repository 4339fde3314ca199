/** A configuration that changes under a running agent: what counts at once, what waits, and what is refused. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { importBusybox, out, type RunningPod, removePod, runContainer, runPod } from "../support/workload.js";

const scratch = mkdtempSync(join(tmpdir(), "berth-configuration-"));
const file = join(scratch, "config.toml");
const dropIn = join(scratch, "config.d", "50-more.toml");
let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  mkdirSync(join(scratch, "config.d"));
  writeFileSync(file, '[rlimits]\nnofile = "100:200"\n');
  agent = await startAgent({ flags: { config: file } });
  await importBusybox(agent);
  pod = await runPod(agent);
});
after(async () => {
  await agent.stop();
  rmSync(scratch, { recursive: true });
});

async function untilLogged(pattern: RegExp): Promise<void> {
  for (const until = Date.now() + 60_000; !pattern.test(agent.logs()); await sleep(50)) {
    assert.ok(Date.now() < until, `${pattern} is not in the log:\n${agent.logs().slice(-3_000)}`);
  }
}

async function openFilesOf(container: string): Promise<string> {
  return (await out(agent, container, "ulimit -Sn; ulimit -Hn")).trim().replace("\n", ":");
}

async function configInForce(): Promise<Record<string, unknown>> {
  const { info } = await agent.client.call("Status", { verbose: true });
  return (JSON.parse(info["info"] ?? "{}") as { config: Record<string, unknown> }).config;
}

test("SIGHUP: limits count for containers that are made from then on, other settings wait", async () => {
  const old = await runContainer(agent, pod);
  writeFileSync(file, 'netns-dir = "/run/elsewhere"\nlog-line-bytes = 1000\n[rlimits]\nnofile = "300:400"\n');
  process.kill(agent.pid, "SIGHUP");
  await untilLogged(/"changed":\["log-line-bytes","rlimits"\],"msg":"the configuration has been read again"/);
  const next = await runContainer(agent, pod);
  assert.equal(await openFilesOf(next), "300:400");
  assert.equal(await openFilesOf(old), "100:200");
  // a flag wins over the file, so that it has not changed
  assert.doesNotMatch(agent.logs(), /count when the agent starts again/);
  writeFileSync(file, 'network = "none"\n[rlimits]\nnofile = "300:400"\n');
  process.kill(agent.pid, "SIGHUP");
  await untilLogged(/"changed":\["network"\],"msg":"these settings have changed, and count when the agent starts/);
  assert.equal((await configInForce())["network"], "auto");
  writeFileSync(file, '[rlimits]\nnofile = "300:400"\n');
});

test("a file that changes is noticed: a drop-in that comes, changes and goes", async () => {
  for (const [text, bytes] of [
    ["log-line-bytes = 5000\n", 5_000],
    ["log-line-bytes = 6000\n", 6_000],
    [null, 16_384],
  ] as const) {
    if (text === null) rmSync(dropIn);
    else writeFileSync(dropIn, text);
    for (const until = Date.now() + 60_000; (await configInForce())["logLineBytes"] !== bytes; await sleep(100)) {
      assert.ok(Date.now() < until, `log-line-bytes is not ${bytes}`);
    }
  }
});

test("files that are refused change nothing, and an agent that starts again takes those of before", async () => {
  writeFileSync(file, "rlimit = 5\nlog-rate = -1\n");
  process.kill(agent.pid, "SIGHUP");
  await untilLogged(
    /"level":"error".*the configuration is refused, and the one before stays in force: .*config\.toml:2: log-rate -1/,
  );
  assert.match(agent.logs(), /config\.toml:1: there is no setting \\"rlimit\\"; \\"rlimits\\" may be meant/);
  assert.equal(await openFilesOf(await runContainer(agent, pod)), "300:400");

  await agent.kill9();
  const before = agent.logs().length;
  await agent.restart();
  assert.match(agent.logs().slice(before), /the configuration is refused, and the one before stays in force/);
  assert.equal(await openFilesOf(await runContainer(agent, pod)), "300:400");

  writeFileSync(file, '[rlimits]\nnofile = "500:600"\n');
  await untilLogged(/"changed":\["rlimits"\],"msg":"the configuration has been read again"/);
  assert.equal(await openFilesOf(await runContainer(agent, pod)), "500:600");
  await removePod(agent, pod);
});

test("an area of the log has a level of its own, at once", async () => {
  const linesSince = async (from: number) => {
    const pods = await runPod(agent);
    await removePod(agent, pods);
    return agent
      .logs()
      .slice(from)
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as { area?: string; level: string; method?: string });
  };
  const usual = await linesSince(agent.logs().length);
  assert.ok(usual.some(({ area, method }) => area === "calls" && method === "RunPodSandbox"));
  assert.ok(usual.some(({ area }) => area === "steps"));
  writeFileSync(file, '# its flag says debug\nlog-areas = "calls=error,steps=warn"\n');
  const from = agent.logs().length;
  process.kill(agent.pid, "SIGHUP");
  await untilLogged(/"changed":\[[^\]]*"log-areas"[^\]]*\],"msg":"the configuration has been read again"/);
  const quiet = (await linesSince(from)).filter(({ level }) => level === "debug" || level === "info");
  assert.ok(!quiet.some(({ area }) => area === "calls" || area === "steps"));
  assert.ok(
    quiet.some(({ area }) => area === "events"),
    "others keep the level of all",
  );
  writeFileSync(file, 'log-areas = "cals=error"\n');
  await untilLogged(
    /log-areas \\?"cals=error\\?" is not AREA=LEVEL\[,AREA=LEVEL\.\.\.\]; the areas are calls, steps, events/,
  );
  writeFileSync(file, "");
});
