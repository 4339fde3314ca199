// A tiny CI runner: a container for each step of a file (docs/library.md), in one pod with one workspace. As root:
//   node docs/examples/ci-runner.mjs pipeline.json
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Runtime } from "berth";

const pipeline = JSON.parse(readFileSync(process.argv[2], "utf8"));
const state = process.env.CI_STATE ?? "/var/lib/berth-ci"; // its own: an agent may run beside it
const runtime = await Runtime.open({
  root: join(state, "root"),
  run: join(state, "run"),
  bridge: process.env.CI_BRIDGE ?? "ci0",
  subnet: process.env.CI_SUBNET ?? "10.89.0.0/24",
  "cgroup-root": process.env.CI_CGROUP ?? "/berth-ci",
});
const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());

/** Prints what a step says, and answers whether it was good. */
async function runStep(pod, step, workspace) {
  const limit = AbortSignal.timeout((step.timeoutSeconds ?? 600) * 1000);
  const signal = AbortSignal.any([limit, interrupted.signal]);
  const container = await pod.run(
    {
      name: step.name,
      image: step.image ?? pipeline.image,
      command: ["sh", "-ec", step.run],
      env: { CI: "true", ...step.env },
      cwd: "/workspace",
      mounts: [{ source: workspace, destination: "/workspace" }],
    },
    signal,
  );
  try {
    for await (const { stream, text } of container.lines(signal)) console.log(`${step.name} ${stream}| ${text}`);
    const { exitCode, reason } = await container.wait(signal);
    console.log(`${step.name}: ${reason}, exit code ${exitCode}`);
    return exitCode === 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    console.log(`${step.name}: ${limit.aborted ? "took too long" : "interrupted"}`);
  } finally {
    await container.remove();
  }
}

const workspace = mkdtempSync(join(tmpdir(), "ci-"));
let pod;
try {
  if (pipeline.archive) await runtime.import(pipeline.archive, pipeline.image);
  else await runtime.pull(pipeline.image, interrupted.signal);
  pod = await runtime.runPod({ name: `ci-${pipeline.name}` });
  process.exitCode = 0;
  for (const step of pipeline.steps) process.exitCode ||= (await runStep(pod, step, workspace)) ? 0 : 1;
} finally {
  await pod?.remove();
  runtime.close();
  rmSync(workspace, { recursive: true });
}
