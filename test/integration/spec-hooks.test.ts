/** Modules that adjust containers' specs: what they change, what they may not, and those that fail or hang. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  createContainer,
  fails,
  importBusybox,
  out,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "berth-spec-hooks-"));
const first = join(scratch, "first.mjs");
const second = join(scratch, "second.mjs");
let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  writeFileSync(
    first,
    `export default async function (spec, { pod, container, podLabels, containerAnnotations }) {
      const what = containerAnnotations.what;
      if (what === "throw") throw new Error("the site's rules forbid it");
      if (what === "hang") for (;;) {}
      if (what === "seccomp") spec.linux.seccomp = { defaultAction: "SCMP_ACT_ALLOW" };
      if (what === "nonsense") return { nothing: true };
      if (what === "exit") process.exit(1);
      if (what !== "nothing") spec.process.env.push(\`SITE=\${podLabels.site}-\${container}\`);
    }`,
  );
  writeFileSync(
    second,
    `export default (spec) => ({ ...spec, process: { ...spec.process, rlimits: [{ type: "RLIMIT_NOFILE", soft: 77, hard: 88 }] } });`,
  );
  agent = await startAgent({ flags: { "spec-hooks": `${first},${second}` } });
  await importBusybox(agent);
  pod = await runPod(agent, { labels: { site: "north" } });
});
after(async () => {
  await removePod(agent, pod);
  await agent.stop();
  rmSync(scratch, { recursive: true });
});

test("two modules change a container one after the other; the log and berth explain tell of it", async () => {
  const id = await runContainer(agent, pod, { metadata: { name: "web", attempt: 0 }, ...sh("sleep 1000") });
  assert.equal(await out(agent, id, "echo $SITE; ulimit -n"), "north-web\n77");
  assert.match(agent.logs(), /"its spec was adjusted"/);
  const env = { ...process.env, BERTH_SOCKET: agent.socket };
  const text = execFileSync(process.execPath, [program, "explain", id], { env, encoding: "utf8" });
  assert.match(text, /Adjusted: .*\n {2}.*first\.mjs: process\.env\[\d+\]: nothing → "SITE=north-web"/);
  assert.match(text, /second\.mjs: process\.rlimits: nothing → \[\{"type":"RLIMIT_NOFILE"/);
});

for (const [what, code, sentence] of [
  ["throw", "FAILED_PRECONDITION", /first\.mjs: the site's rules forbid it/],
  ["seccomp", "FAILED_PRECONDITION", /first\.mjs: linux\.seccomp\S* cannot be changed by a module/],
  ["nonsense", "FAILED_PRECONDITION", /first\.mjs: .* cannot be changed by a module/],
  ["exit", "FAILED_PRECONDITION", /first\.mjs has ended its thread/],
  ["hang", "DEADLINE_EXCEEDED", /first\.mjs has not answered for 5 s/],
] as const) {
  test(`a module that fails (${what}) refuses the container, leaves nothing, and is started again`, async () => {
    await fails(createContainer(agent, pod, { annotations: { what } }), code, sentence);
    const id = await runContainer(agent, pod, { metadata: { name: `after-${what}`, attempt: 0 }, ...sh("sleep 1000") });
    assert.equal(await out(agent, id, "echo $SITE"), `north-after-${what}`);
  });
}
