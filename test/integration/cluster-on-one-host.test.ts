/**
 * deploy/cluster-on-one-host with the programs of Kubernetes, which no package of Debian 12 has: BERTH_CLUSTER_BINARIES is a directory
 * with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { buildBusyboxImage, pushImage } from "../support/image-builder.js";
import { startRegistry } from "../support/registry.js";
import { claimSlot } from "../support/slot.js";

const run = promisify(execFile);
const repository = fileURLToPath(new URL("../../../", import.meta.url));
const script = join(repository, "deploy/cluster-on-one-host/cluster");
const binaries = process.env["BERTH_CLUSTER_BINARIES"];
const skip = binaries === undefined && "BERTH_CLUSTER_BINARIES does not name a directory with Kubernetes' programs";

test("a cluster comes up on Berth, runs a pod, and leaves nothing", { skip }, async () => {
  const registry = await startRegistry();
  const slot = claimSlot();
  const directory = mkdtempSync(join(tmpdir(), "c-"));
  const env = {
    ...process.env,
    BERTH: `${process.execPath} ${join(repository, "dist/agent/cli/main.js")}`,
    PORT: String(20_000 + slot.number * 10),
    BRIDGE: slot.bridge,
    POD_CIDR: slot.subnet.split(",")[0],
    KUBECONFIG: join(directory, "admin.kubeconfig"),
  };
  const mounts = () => readFileSync("/proc/self/mountinfo", "utf8");
  const kubectl = async (...args: string[]) => (await run(join(binaries as string, "kubectl"), args, { env })).stdout;
  try {
    await pushImage(registry.url, "test/busybox", "1", await buildBusyboxImage());
    const { stdout } = await run(script, ["up", directory, binaries as string], { env });
    assert.equal(stdout, `export KUBECONFIG=${env.KUBECONFIG}\n`);
    assert.match(await kubectl("get", "nodes", "-o", "wide"), / Ready .* berth:\/\//);
    await kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s");
    const image = `${registry.host}/test/busybox:1`;
    await kubectl("run", "hello", "--image", image, "--restart=Never", "--", "sh", "-c", "echo from a pod");
    await kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/hello", "--timeout=60s");
    assert.equal(await kubectl("logs", "hello"), "from a pod\n");
  } finally {
    await run(script, ["down", directory], { env });
    await registry.stop();
    slot.release();
  }
  assert.ok(!existsSync(directory));
  assert.ok(!mounts().includes(directory));
  assert.ok(!existsSync(`/sys/class/net/${slot.bridge}`));
});
