/**
 * An agent whose clock is set while it runs: far back, and far ahead. What it waits for goes by a clock that nobody sets;
 * only what people read has the other one.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { native } from "../../native/binding.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/until.js";
import {
  containerStatus,
  exec,
  importBusybox,
  long,
  out,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  sh,
} from "../support/workload.js";

const library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
const year = 365 * 24 * 3600;

describe("an agent whose clock jumps", { skip: !existsSync(library) && `${library} is not installed` }, () => {
  let agent: TestAgent;
  let pod: RunningPod;
  let container = "";
  const clock = join(tmpdir(), `berth-clock-${process.pid}`);
  const setClock = (seconds: number) => writeFileSync(clock, `${seconds < 0 ? "" : "+"}${seconds}s\n`);

  before(async () => {
    setClock(0);
    agent = await startAgent({
      env: {
        LD_PRELOAD: library,
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_NO_CACHE: "1",
        FAKETIME_DONT_FAKE_MONOTONIC: "1",
      },
    });
    await importBusybox(agent);
    pod = await runPod(agent);
    container = await runContainer(agent, pod, sh("while :; do sleep 0.1; done"));
  });
  after(async () => {
    await agent.stop();
    execFileSync("rm", ["-f", clock]);
  });

  /** that its clock has, in seconds from 1970 */
  const agentsTime = async () => {
    const { status } = await runToEnd(agent, pod, sh("true"));
    return Number(BigInt(String(status.created_at)) / 1_000_000_000n);
  };
  const restored = () => agent.logs().split("made again: bridge").length - 1;

  for (const [what, seconds] of [
    ["back by an hour", -3600],
    ["back by a year", -year],
    ["ahead by two years", year],
    ["back to what it is", 0],
  ] as const) {
    it(`${what}: calls, waits and repairs go on`, async () => {
      setClock(seconds);
      const off = (await agentsTime()) - (Date.now() / 1000 + seconds);
      assert.ok(Math.abs(off) < 60, `the agent has that clock: ${off} s`);
      assert.equal(await out(agent, container, "echo here"), "here");
      // a time-out is neither at once nor never
      const slow = agent.client.call("ExecSync", { container_id: container, cmd: ["sleep", "1000"], timeout: long(1) });
      await assert.rejects(slow, { code: 4 });
      assert.equal((await containerStatus(agent, container)).state, 1);
      // what another program takes away is made again within seconds
      const before = restored();
      await native.deleteLink(agent.slot.bridge);
      await until(() => restored() > before);
      await removePod(agent, await runPod(agent));
      // rates of the processor are told again after the second reading
      for (let tries = 0; ; tries++) {
        const { stats } = await agent.client.call("ContainerStats", { container_id: container });
        if (stats?.cpu?.usage_nano_cores?.value) break;
        assert.ok(tries < 100, "no rate");
        await exec(agent, container, ["sleep", "0.15"]);
      }
    });
  }

  it("an agent that starts before the time of its records finds everything", async () => {
    setClock(-2 * year);
    await agent.restart();
    assert.equal(await out(agent, container, "echo here"), "here");
    const { events } = JSON.parse((await agent.client.call("ListRecentActivity", {})).json);
    assert.ok(Array.isArray(events));
  });
});
