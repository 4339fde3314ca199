/** Block-IO and RDT classes, chosen by annotations: a real disk is throttled. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups } from "../support/leaks.js";
import { createContainer, fails, importBusybox, removePod, runContainer, runPod } from "../support/workload.js";

const disk = readdirSync("/sys/block")
  .map((name) => `/dev/${name}`)
  .find((path) => /^\/dev\/(sd|vd|nvme|xvd)/.test(path) && existsSync(path));
const hasController = openCgroupManager().hierarchies.some(({ controllers }) =>
  controllers.some((name) => name === "blkio" || name === "io"),
);
const skip = disk === undefined ? "no disk is here" : hasController ? false : "there is no controller for block IO";

const scratch = mkdtempSync(join(tmpdir(), "berth-classes-"));
let agent: TestAgent;

before(async () => {
  const config = join(scratch, "config.toml");
  writeFileSync(
    config,
    `[blockio]
none = []
[[blockio.slow]]
devices = ["${disk ?? "/dev/null"}", "/dev/no-such-device*"]
throttle-read-bps = "2M"
throttle-write-iops = 50
[rdt.gold]
schemata = ["L3:0=f"]
`,
  );
  agent = await startAgent({ flags: { config } });
  await importBusybox(agent);
});
after(async () => {
  await agent.stop();
  rmSync(scratch, { recursive: true });
});

const ofPod = "blockio.resources.beta.kubernetes.io/pod";
const ofContainer = "io.kubernetes.cri.blockio-class";

/** What the kernel says of a container's block IO. */
function limitsOf(id: string): string[] {
  const files = ["blkio.throttle.read_bps_device", "blkio.throttle.write_iops_device", "io.max"];
  return leftCgroups(`${agent.cgroupRoot}/${id}`)
    .flatMap((directory) => files.map((name) => join(directory, name)))
    .filter(existsSync)
    .flatMap((path) => readFileSync(path, "utf8").split("\n").filter(Boolean));
}

test("a class limits what a container reads from a disk: of the pod, of the container, none", { skip }, async () => {
  const { rdev } = statSync(disk ?? "");
  const device = `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
  const v2 = [`${device} rbps=2000000 wbps=max riops=max wiops=50`];
  const throttled = openCgroupManager().mode === "v2" ? v2 : [`${device} 2000000`, `${device} 50`];
  const pod = await runPod(agent, { annotations: { [ofPod]: "slow" } });
  assert.deepEqual(limitsOf(await runContainer(agent, pod)), throttled);
  assert.deepEqual(limitsOf(await runContainer(agent, pod, { annotations: { [ofContainer]: "none" } })), []);
  const plain = await runPod(agent, {
    annotations: { "blockio.resources.beta.kubernetes.io/container.named": "slow" },
  });
  assert.deepEqual(limitsOf(await runContainer(agent, plain)), []);
  const named = await runContainer(agent, plain, { metadata: { name: "named", attempt: 0 } });
  assert.deepEqual(limitsOf(named), throttled);
  const told = agent.logs().match(/class slow does nothing for \/dev\/no-such-device\*/g) ?? [];
  assert.equal(told.length, 1);
  await removePod(agent, pod);
  await removePod(agent, plain);
});

test("a class that nobody has configured is named, and nothing is made", async () => {
  const pod = await runPod(agent, { annotations: { [ofPod]: "slow", "rdt.resources.beta.kubernetes.io/pod": "tin" } });
  const asking = (annotations: Record<string, string>) => createContainer(agent, pod, { annotations });
  await fails(
    asking({ [ofContainer]: "fast", "io.kubernetes.cri.rdt-class": "gold" }),
    "FAILED_PRECONDITION",
    /io\.kubernetes\.cri\.blockio-class: the class "fast" is none of those .* \(none, slow\)/,
  );
  await fails(
    asking({ [ofContainer]: "none" }),
    "FAILED_PRECONDITION",
    /rdt\.resources\.beta\.kubernetes\.io\/pod: the class "tin"/,
  );
  if (!existsSync("/sys/fs/resctrl/schemata")) {
    const gold = { [ofContainer]: "none", "io.kubernetes.cri.rdt-class": "gold" };
    await fails(
      asking(gold),
      "FAILED_PRECONDITION",
      /"gold" cannot be given: resctrl is not mounted at \/sys\/fs\/resctrl/,
    );
  }
  const { containers } = await agent.client.call("ListContainers", {});
  assert.deepEqual(containers, []);
});

test("without a table every class is refused", async () => {
  const bare = await startAgent();
  try {
    await importBusybox(bare);
    const pod = await runPod(bare, { annotations: { [ofPod]: "slow" } });
    await fails(
      createContainer(bare, pod),
      "FAILED_PRECONDITION",
      /the class "slow" cannot be given: config\.toml has no table/,
    );
  } finally {
    await bare.stop();
  }
});
