/** Devices of the Container Device Interface. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  createContainer,
  exec,
  fails,
  importBusybox,
  out,
  type RunningPod,
  runContainer,
  runPod,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
let base: string;

before(async () => {
  base = mkdtempSync(join(tmpdir(), "berth-cdi-"));
  for (const name of ["etc", "run"]) mkdirSync(join(base, name));
  agent = await startAgent({ flags: { "cdi-dirs": `${join(base, "etc")},${join(base, "run")}` } });
  await importBusybox(agent);
  pod = await runPod(agent);
  writeFileSync(join(base, "library"), "of the driver");
  writeFileSync(
    join(base, "run", "vendor.yaml"),
    `cdiVersion: 0.8.0
kind: vendor.example/dev
containerEdits:
  env: [DRIVER=1]
devices:
- name: zero
  containerEdits:
    env: ["NAME=zero"]
    additionalGids: [4321]
    deviceNodes:
    - {path: /dev/vendor/zero, hostPath: /dev/zero, permissions: r}
    mounts:
    - {hostPath: ${join(base, "library")}, containerPath: /usr/lib/vendor.so, options: [ro, nosuid, nodev, bind]}
- name: rdt
  containerEdits:
    intelRdt: {closID: x}
`,
  );
});

after(async () => {
  await agent.stop();
  rmSync(base, { recursive: true, force: true });
});

test("a device's variables, nodes, mounts and groups are in the container, its rules are in force", async () => {
  const id = await runContainer(agent, pod, { CDI_devices: [{ name: "vendor.example/dev=zero" }] });
  assert.equal(await out(agent, id, "echo $DRIVER $NAME"), "1 zero");
  assert.equal(await out(agent, id, "cat /usr/lib/vendor.so"), "of the driver");
  assert.match(await out(agent, id, "id -G"), /\b4321\b/);
  assert.equal(await out(agent, id, "head -c 4 /dev/vendor/zero | od -An -tx1"), " 00 00 00 00");
  assert.notEqual((await exec(agent, id, "echo > /usr/lib/vendor.so")).exitCode, 0);
});

test("devices by annotation", async () => {
  const annotations = { "cdi.k8s.io/plugin_claim": "vendor.example/dev=zero" };
  const id = await runContainer(agent, pod, { annotations });
  assert.equal(await out(agent, id, "echo $DRIVER $NAME"), "1 zero");
});

test("a device that is not there, or cannot be given, is named and leaves nothing", async () => {
  const asking = (name: string) => createContainer(agent, pod, { CDI_devices: [{ name }] });
  await fails(
    asking("vendor.example/dev=one"),
    "INVALID_ARGUMENT",
    /CDI_devices\[0\]\.name: .*vendor\.example\/dev=one/,
  );
  await fails(asking("dev"), "INVALID_ARGUMENT", /config\.CDI_devices\[0\]\.name: "dev"/);
  await fails(asking("vendor.example/dev=rdt"), "FAILED_PRECONDITION", /vendor\.example\/dev=rdt asks for intelRdt/);
});
