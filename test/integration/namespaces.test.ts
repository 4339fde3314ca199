/** `berth namespaces`, beside what /proc says. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readlinkSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { kinds, type PodNamespaces } from "../../agent/cli/namespaces/map.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  hostPidOf,
  importBusybox,
  NamespaceMode,
  type RunningPod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const own = ["pid", "mnt", "cgroup"];
const ofPod = ["net", "ipc", "uts"];

let agent: TestAgent;
let pod: RunningPod;
let containers: string[];

const berth = async (...args: string[]): Promise<string> => {
  const env = { ...process.env, BERTH_SOCKET: agent.socket };
  return (await run(process.execPath, [program, "namespaces", ...args], { env })).stdout;
};

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent, {});
  containers = [];
  for (let count = 0; count < 2; count++) containers.push(await runContainer(agent, pod, sh("sleep 1000")));
});
after(() => agent.stop());

test("containers share the pod's network, IPC and name; the rest is their own; numbers are the kernel's", async () => {
  const [told, ...more] = JSON.parse(await berth("--json")) as PodNamespaces[];
  assert.equal(more.length, 0);
  assert.equal(told?.id, pod.id);
  assert.deepEqual(
    told?.processes.map(({ kind }) => kind),
    ["monitor", "container", "container"],
  );
  for (const { kind, pid, namespaces } of told?.processes ?? []) {
    for (const name of kinds) {
      assert.equal(`${name}:[${namespaces[name]?.inode}]`, readlinkSync(`/proc/${pid}/ns/${name}`));
      const expected = ofPod.includes(name) ? "pod" : kind === "container" && own.includes(name) ? "own" : undefined;
      if (expected !== undefined) assert.equal(namespaces[name]?.owner, expected, name);
    }
    assert.deepEqual([namespaces.user?.owner, namespaces.time?.owner], ["host", "host"]);
  }
  const pids = await Promise.all(containers.map((id) => hostPidOf(agent, id)));
  assert.deepEqual(
    told?.processes
      .slice(1)
      .map(({ pid }) => pid)
      .sort(),
    pids.sort(),
  );
});

test("the host's network and a pod-wide PID namespace show as such", async () => {
  const namespace_options = { network: NamespaceMode.NODE, pid: NamespaceMode.POD };
  const shared = await runPod(agent, { linux: { security_context: { namespace_options } } });
  const linux = { security_context: { namespace_options } };
  for (let count = 0; count < 2; count++) await runContainer(agent, shared, { ...sh("sleep 1000"), linux });
  const [told] = JSON.parse(await berth(shared.id.slice(0, 20), "--json")) as PodNamespaces[];
  const inContainers = told?.processes.filter(({ kind }) => kind === "container") ?? [];
  assert.deepEqual(
    inContainers.map(({ namespaces }) => [namespaces.net?.owner, namespaces.uts?.owner, namespaces.pid?.owner]),
    [
      ["host", "host", "pod"],
      ["host", "host", "pod"],
    ],
  );
});

test("as a table, a tree, a picture and a graph", async () => {
  const name = pod.config.metadata?.name ?? "";
  assert.match(
    await berth(name),
    /^test\/pod-\S+ \([0-9a-f]{12}\)\nPROCESS +PID +USER +NET .*\nmonitor +\d+ +host +pod +pod +pod /,
  );
  assert.match(
    await berth(name, "--tree"),
    /\n├─ net \d+, the pod's\n│ {2}├─ monitor \(\d+\)\n│ {2}├─ \S+ \(\d+\)\n│ {2}└─ /,
  );
  assert.match(await berth(name, "--svg"), /^<svg [\s\S]*<rect [\s\S]*<\/svg>\n$/);
  assert.match(await berth(name, "--dot"), /^graph namespaces \{[\s\S]* -- n_net_\d+;\n[\s\S]*\}\n$/);
});

test("mistakes have a sentence", async () => {
  await assert.rejects(berth("nobody"), { stderr: /there is no pod nobody/ });
  await assert.rejects(berth("--svg", "--dot"), { stderr: /--svg and --dot are different things/ });
});
