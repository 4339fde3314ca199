/** `berth debug`, and what an agent leaves that crashes. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import { until } from "../support/until.js";
import { exec, importBusybox, removePod, runContainer, runPod, sh } from "../support/workload.js";

describe("berth debug", () => {
  let agent: TestAgent;
  before(async () => {
    // as the compiler makes it: a profile names its files
    agent = await startAgent({ program: fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url)) });
    await importBusybox(agent);
  });
  after(() => agent.stop());
  const berth = (...args: string[]) => runCli(["debug", ...args], { BERTH_SOCKET: agent.socket });

  it("cpu writes a profile that names the agent's own functions", async () => {
    const path = join(agent.paths.base, "a.cpuprofile");
    const pod = await runPod(agent);
    const container = await runContainer(agent, pod, sh("sleep 1000"));
    let ended = false;
    const profiled = berth("cpu", "--seconds", "2", "-o", path).finally(() => {
      ended = true;
    });
    while (!ended) await exec(agent, container, ["true"]);
    assert.deepEqual(await profiled, { code: 0, stdout: `${path}\n`, stderr: "" });
    await removePod(agent, pod);
    const { nodes, startTime, endTime } = JSON.parse(readFileSync(path, "utf8"));
    const urls: string[] = nodes.map((node: { callFrame: { url: string } }) => node.callFrame.url);
    assert.ok(urls.some((url) => url.endsWith("agent/call-wrapper.js")));
    assert.ok(endTime - startTime >= 1_900_000, `${endTime - startTime} us`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const again = await berth("cpu", "-o", path, "--seconds", "1");
    assert.equal(again.code, 1);
    assert.match(again.stderr, /^berth: EEXIST/);
    const wrong = await berth("cpu", "--seconds", "301", "-o", `${path}.2`);
    assert.match(wrong.stderr, /'301' is invalid. A whole number from 1 to 300/);
  });

  it("heap writes what DevTools read", async () => {
    const path = join(agent.paths.base, "a.heapsnapshot");
    assert.deepEqual(await berth("heap", "-o", path), { code: 0, stdout: `${path}\n`, stderr: "" });
    const { snapshot, strings } = JSON.parse(readFileSync(path, "utf8"));
    assert.ok(snapshot.node_count > 10_000);
    assert.ok(strings.includes("RecentCalls"));
  });

  it("events tells calls that have ended, that run, and what has happened", async () => {
    const pod = await runPod(agent);
    const container = await runContainer(agent, pod, sh("sleep 1000"));
    await assert.rejects(agent.client.call("ContainerStatus", { container_id: "none" }));
    const slow = exec(agent, container, ["sh", "-c", "until [ -e /go ]; do sleep 0.05; done"]);
    const told = async () => JSON.parse((await berth("events", "--json")).stdout);
    let activity = await told();
    for (; activity.running.length < 2; activity = await told());
    const running = activity.running.map(({ method, container: id }: Record<string, string>) => [method, id]);
    assert.deepEqual(running, [
      ["ExecSync", container],
      ["ListRecentActivity", undefined],
    ]);
    const failed = activity.calls.find(({ code }: { code: string }) => code === "NOT_FOUND");
    assert.equal(failed.error, 'container "none" is not known');
    await exec(agent, container, ["touch", "/go"]);
    await slow;
    await removePod(agent, pod);
    const text = (await berth("events")).stdout;
    assert.match(text, /^\S+Z {2}RunPodSandbox +\S+ ms +OK/m);
    assert.match(text, /container-exit/);
    assert.ok(!text.includes("until [ -e"), "what programs are called with stays out: it has secrets");
  });

  it("an agent that crashes leaves a report, and the next one says so, once", async () => {
    const onSignal = "process.on('SIGUSR2',()=>{throw Object.assign(new Error('planted'),{code:'EPLANTED'})})";
    const crashing = await startAgent({ env: { NODE_OPTIONS: importing(onSignal) } });
    try {
      await assert.rejects(crashing.client.call("ContainerStatus", { container_id: "none" }));
      process.kill(crashing.pid, "SIGUSR2");
      const directory = join(crashing.paths.root, "crashes");
      const reports = () => readdirSync(directory);
      await until(() => crashing.logs().includes("the agent crashes: planted"));
      await until(() => reports().length === 1);
      await crashing.kill9();
      const [name = ""] = reports();
      assert.match(name, /^new-crash-/);
      const report = JSON.parse(readFileSync(join(directory, name), "utf8"));
      assert.deepEqual(
        [report.origin, report.error.message, report.error.code],
        ["uncaughtException", "planted", "EPLANTED"],
      );
      assert.ok(report.activity.calls.some(({ code }: { code: string }) => code === "NOT_FOUND"));

      for (let count = 0; count < 12; count++) writeFileSync(join(directory, `crash-old-${count}.json`), "{}");
      await crashing.restart();
      await crashing.restart();
      const told = crashing.logs().match(/an earlier agent has crashed, and left a report/g);
      assert.equal(told?.length, 1);
      assert.equal(reports().length, 10, "the oldest go");
      assert.ok(reports().every((one) => !one.startsWith("new-")));
    } finally {
      await crashing.stop();
    }
  });

  it("an agent without memory leaves Node's own report", async () => {
    const onSignal = "process.on('SIGUSR2',()=>{const all=[];for(;;)all.push(new Array(1e5).fill(Math.random()))})";
    const NODE_OPTIONS = `--max-old-space-size=96 ${importing(onSignal)}`;
    const crashing = await startAgent({ env: { NODE_OPTIONS } });
    try {
      process.kill(crashing.pid, "SIGUSR2");
      const reports = () => readdirSync(join(crashing.paths.root, "crashes"));
      await until(() => reports().some((name) => name.startsWith("new-fatal-")));
      await until(() => !isAlive(crashing.pid));
      await crashing.kill9();
      await crashing.restart();
      assert.match(crashing.logs(), /crashes\/fatal-\S+json","msg":"an earlier agent has crashed/);
    } finally {
      await crashing.stop();
    }
  });
});

/** For NODE_OPTIONS, which knows no quotes. */
function importing(code: string): string {
  return `--import=data:text/javascript;base64,${Buffer.from(code).toString("base64")}`;
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
