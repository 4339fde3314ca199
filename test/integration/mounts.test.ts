/** Mounts of the request, beyond what a container's usual ones are. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  createContainer,
  fails,
  importBusybox,
  out,
  type RunningPod,
  runContainer,
  runPod,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

/** A directory of the test's own on the host. */
function hostDirectory(name: string): string {
  const path = join(agent.paths.base, name);
  mkdirSync(path, { recursive: true });
  return path;
}

test("a thousand mounts, each what it says; more than four thousand are refused", async () => {
  const source = hostDirectory("many");
  const mounts = Array.from({ length: 1000 }, (_, index) => {
    writeFileSync(join(source, `${index}`), `${index}`);
    return { container_path: `/many/${index % 10}/${index}`, host_path: join(source, `${index}`), readonly: true };
  });
  const descriptors = () => readdirSync(`/proc/${agent.pid}/fd`).length;
  const before = descriptors();
  const container = await runContainer(agent, pod, { mounts });
  assert.equal(
    await out(agent, container, "cat /many/0/0 /many/7/247 /many/3/253 /many/6/506 /many/9/999"),
    "0247253506999",
  );
  assert.equal(await out(agent, container, "grep -c ' /many/' /proc/mounts"), "1000");
  assert.equal(descriptors(), before);
  const tooMany = Array.from({ length: 4100 }, (_, index) => ({ container_path: `/m/${index}`, host_path: source }));
  await fails(createContainer(agent, pod, { mounts: tooMany }), "INVALID_ARGUMENT", /config\.mounts: 4103 mounts/);
});
