/**
 * A container's cgroup is made when its pod is gone, and the kubelet has removed that pod's cgroup: its parents are made anew.
 * The agent is killed at each of the first things that it does then, and the next one takes the parents away.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parseHierarchies, unifiedControllers } from "../../sandbox/cgroup/hierarchies.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type Killer, makeKiller, noCompiler } from "../support/kill-at-call.js";
import { leftCgroups } from "../support/leaks.js";
import { until } from "../support/until.js";
import { createContainer, importBusybox, removePod, runPod } from "../support/workload.js";

let agent: TestAgent;
let base: string;
let killer: Killer;

before(async () => {
  if (noCompiler) return;
  base = mkdtempSync(join(tmpdir(), "berth-parents-"));
  const hook = join(base, "hook.mjs");
  writeFileSync(
    hook,
    `import { existsSync, writeFileSync } from "node:fs";
     const base = ${JSON.stringify(base)};
     export default async () => {
       writeFileSync(base + "/here", "");
       while (!existsSync(base + "/go")) await new Promise((done) => setTimeout(done, 5));
     };`,
  );
  killer = makeKiller(base);
  agent = await startAgent({ flags: { "spec-hooks": hook }, env: killer.env });
  await importBusybox(agent);
});

after(async () => {
  await agent?.stop();
  if (base) rmSync(base, { recursive: true });
});

/** The kubelet's part. */
function ofAllHierarchies(what: (path: string) => void): void {
  const hierarchies = parseHierarchies(readFileSync("/proc/self/mountinfo", "utf8"), unifiedControllers);
  for (const { mountPoint } of hierarchies) what(join(mountPoint, agent.cgroupRoot, "kubepods/pod"));
}
const makeParents = () => ofAllHierarchies((path) => mkdirSync(path, { recursive: true }));
const removeParents = () =>
  ofAllHierarchies((path) => {
    for (const directory of [path, join(path, ".."), join(path, "../..")]) rmdirSync(directory);
  });

test("an agent killed while it makes cgroup parents anew leaves none to the next one", {
  skip: noCompiler,
}, async () => {
  let kills = 0;
  for (let step = 1; step <= 8; step++) {
    for (const name of ["here", "go"]) rmSync(join(base, name), { force: true });
    makeParents();
    const pod = await runPod(agent, { linux: { cgroup_parent: `${agent.cgroupRoot}/kubepods/pod` } });
    const creating = createContainer(agent, pod).then(
      () => assert.fail("the container was created"),
      () => undefined,
    );
    await until(() => existsSync(join(base, "here")));
    await removePod(agent, pod);
    removeParents();
    killer.arm(step);
    writeFileSync(join(base, "go"), "");
    await creating;
    if (killer.hasKilled()) kills++;
    killer.arm(0);
    await agent.kill9();
    await agent.restart();
    assert.deepEqual(leftCgroups(agent.cgroupRoot), [], `killed at step ${step}`);
  }
  assert.ok(kills > 0);
  await agent.assertNothingLeft();
});
