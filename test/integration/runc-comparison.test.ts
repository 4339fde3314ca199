/**
 * Random configurations, each run by Berth and, from its bundle, by runc: a probe inside and the host must see the same,
 * line by line, but for what differs on purpose (test/support/comparison/deliberate.ts).
 * BERTH_COMPARISON_SEEDS="FIRST-LAST" tries others than the few that are tried by default.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { differences } from "../support/comparison/compare.js";
import { hasProbe, makeProbe } from "../support/comparison/probe.js";
import { runOnBothSides } from "../support/comparison/sides.js";
import { makeWorld, unmountWorld, type World } from "../support/comparison/world.js";

const [first = 1, last = first] = (process.env["BERTH_COMPARISON_SEEDS"] ?? "1-12").split("-").map(Number);
const hasRunc = spawnSync("runc", ["--version"]).error === undefined;
const missing = hasRunc ? (hasProbe() ? undefined : "g++") : "runc";

describe("runc runs what Berth runs", { skip: missing === undefined ? false : `${missing} is not there` }, () => {
  let agent: TestAgent;
  let world: World;
  let scratch: string;
  let ran = 0;

  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), "berth-comparison-"));
    const config = join(scratch, "config.toml");
    writeFileSync(config, '[runtimes.runc]\npath = "/usr/sbin/runc"\n[rlimits]\nnofile = "1000:2000"\ncore = "0:0"\n');
    agent = await startAgent({ flags: { config } });
    const probe = join(agent.paths.base, "probe");
    makeProbe(probe);
    world = await makeWorld(agent, probe);
  });

  after(async () => {
    if (world !== undefined) unmountWorld(world);
    await agent.stop();
    rmSync(scratch, { recursive: true });
  });

  for (let seed = first; seed <= last; seed++) {
    test(`configuration ${seed}`, async () => {
      const comparison = await runOnBothSides(agent, world, seed);
      if (comparison.sides.berth.failure === undefined) ran++;
      assert.deepEqual(differences(comparison), [], JSON.stringify(comparison.request, null, 1));
    });
  }

  test("of many configurations most are accepted", () => {
    if (last - first >= 10) assert.ok(ran > (last - first) / 2, `${ran} of seeds ${first} to ${last}`);
  });
});
