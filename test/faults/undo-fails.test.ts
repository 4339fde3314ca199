/**
 * What a call that fails could not take away again (a file that may not be removed) stays known: it goes with the pod when it
 * can, or at the start of the next agent.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import {
  createContainer,
  fails,
  importBusybox,
  PodSandboxState,
  podConfig,
  podStatus,
  type RunningPod,
  removePod,
  runPod,
} from "../support/workload.js";

let agent: TestAgent;
let base: string;

/** No file system keeps root from removing a file but by this. */
function isImmutablePossible(): boolean {
  const directory = mkdtempSync(join(tmpdir(), "berth-immutable-"));
  try {
    return spawnSync("chattr", ["+i", directory]).status === 0 && spawnSync("chattr", ["-i", directory]).status === 0;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const skip = !isImmutablePossible() && "chattr +i is not possible in the directory for temporary files";
const release = (path: string) => execFileSync("chattr", ["-i", path]);
const recordsOf = (kind: string) => readdirSync(join(agent.paths.root, "state", kind));

/** Also of a test that has failed half way. */
async function releaseAndStop(): Promise<void> {
  spawnSync(
    "chattr",
    ["-R", "-i", join(agent.paths.root, "containers"), join(agent.paths.root, "state"), agent.paths.run],
    {
      stdio: "ignore",
    },
  );
  await agent.stop();
}

async function restartAfterKill(): Promise<void> {
  await agent.kill9();
  await agent.restart();
}

describe("what a creation of a container", { skip }, () => {
  before(async () => {
    base = mkdtempSync(join(tmpdir(), "berth-undo-"));
    mkdirSync(join(base, "hooks.d"));
    // the container's directory is that of the bundle
    const script = `directory=$(sed 's/.*"bundle":"\\([^"]*\\)".*/\\1/'); chattr +i "\${directory%/bundle}"
      echo "\${directory%/bundle}" > ${base}/stuck; exit 1`;
    const hook = { path: "/bin/sh", args: ["sh", "-c", script], env: ["PATH=/bin:/usr/bin"] };
    const content = { version: "1.0.0", hook, when: { always: true }, stages: ["createRuntime"] };
    writeFileSync(join(base, "hooks.d", "stuck.json"), JSON.stringify(content));
    agent = await startAgent({ flags: { "hooks-dir": join(base, "hooks.d") } });
    await importBusybox(agent);
  });
  after(async () => {
    await releaseAndStop();
    rmSync(base, { recursive: true });
  });

  /** A pod in which a container could neither be made nor taken back. */
  async function withHalfMade(): Promise<{ pod: RunningPod; directory: string }> {
    const pod = await runPod(agent);
    await fails(createContainer(agent, pod), "FAILED_PRECONDITION", /createRuntime hook/);
    const directory = readFileSync(join(base, "stuck"), "utf8").trim();
    assert.equal(dirname(directory), join(agent.paths.root, "containers"));
    assert.deepEqual(recordsOf("containers"), [`${directory.split("/").pop()}.json`]);
    assert.deepEqual((await agent.client.call("ListContainers", {})).containers, []);
    return { pod, directory };
  }

  test("has left goes with its pod, as soon as it can", async () => {
    const { pod, directory } = await withHalfMade();
    await fails(removePod(agent, pod), "INTERNAL", /EPERM/);
    assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);
    release(directory);
    await removePod(agent, pod);
    await agent.assertNothingLeft();
  });

  test("has left goes at the start of the next agent, or with its pod after that", async () => {
    const { pod, directory } = await withHalfMade();
    await restartAfterKill();
    assert.ok(existsSync(directory));
    await fails(removePod(agent, pod), "INTERNAL", /EPERM/);
    release(directory);
    await restartAfterKill();
    assert.ok(!existsSync(directory));
    assert.deepEqual(recordsOf("containers"), []);
    await removePod(agent, pod);

    const next = await withHalfMade();
    await restartAfterKill();
    release(next.directory);
    await removePod(agent, next.pod);
    await agent.assertNothingLeft();
  });
});

describe("what a start of a pod", { skip }, () => {
  before(async () => {
    agent = await startAgent({ flags: { network: "cni" } });
    const { bin, conf } = agent.paths.cni;
    const script = `case "$CNI_COMMAND" in
      ADD) chattr +i ${agent.paths.run}/pods/$CNI_CONTAINERID; echo '{"code": 100, "msg": "no"}'; exit 1 ;;
      VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
    esac`;
    writeFileSync(join(bin, "stuck"), `#!/bin/sh\ncat > /dev/null\n${script}\n`, { mode: 0o755 });
    const list = { cniVersion: "1.0.0", name: "stuck", plugins: [{ type: "stuck" }] };
    writeFileSync(join(conf, "10-stuck.conflist"), JSON.stringify(list));
    await importBusybox(agent);
  });
  after(releaseAndStop);

  /** A pod that could neither be started nor taken back. */
  async function withHalfMade() {
    const config = podConfig(agent);
    await fails(agent.client.call("RunPodSandbox", { config }), "INTERNAL", /no/);
    const { items } = await agent.client.call("ListPodSandbox", {});
    assert.deepEqual(
      items.map(({ state }) => state),
      [PodSandboxState.SANDBOX_NOTREADY],
    );
    const id = items[0]?.id ?? "";
    await fails(
      createContainer(agent, { id, config }),
      "FAILED_PRECONDITION",
      /is starting: no container can be made in it/,
    );
    return { pod: { id, config }, directory: join(agent.paths.run, "pods", id) };
  }

  test("has left is a pod that is not ready, and goes with it as soon as it can", async () => {
    const { pod, directory } = await withHalfMade();
    await fails(removePod(agent, pod), "INTERNAL", /run\/pods/);
    release(directory);
    await removePod(agent, pod);
    await agent.assertNothingLeft();
  });

  test("has left goes at the start of the next agent, or with the pod after that", async () => {
    const { directory } = await withHalfMade();
    release(directory);
    await restartAfterKill();
    assert.deepEqual((await agent.client.call("ListPodSandbox", {})).items, []);
    await agent.assertNothingLeft();

    const next = await withHalfMade();
    await restartAfterKill();
    await fails(removePod(agent, next.pod), "INTERNAL", /run\/pods/);
    release(next.directory);
    await removePod(agent, next.pod);
    await agent.assertNothingLeft();
  });
});

test("a pod whose record cannot be removed can be removed later", { skip }, async () => {
  agent = await startAgent();
  try {
    const pod = await runPod(agent);
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
    const record = join(agent.paths.root, "state", "pods", `${pod.id}.json`);
    execFileSync("chattr", ["+i", record]);
    await fails(removePod(agent, pod), "INTERNAL", /EPERM/);
    release(record);
    assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);
    await removePod(agent, pod);
    await agent.assertNothingLeft();
  } finally {
    await releaseAndStop();
  }
});

test("berth rm: a pod that cannot be removed holds up none of the others, and is told", { skip }, async () => {
  agent = await startAgent();
  try {
    const pods = [await runPod(agent), await runPod(agent), await runPod(agent)];
    const directory = join(agent.paths.run, "pods", pods[1]?.id ?? "");
    await agent.client.call("StopPodSandbox", { pod_sandbox_id: pods[1]?.id ?? "" });
    execFileSync("chattr", ["+i", directory]);
    const rm = () => runCli(["rm", "--all", "--force", "--json"], { BERTH_SOCKET: agent.socket });
    const some = await rm();
    assert.deepEqual([some.code, JSON.parse(some.stdout).removed.length], [1, 2]);
    assert.match(some.stderr, /run\/pods/);
    release(directory);
    assert.deepEqual(JSON.parse((await rm()).stdout), { removed: [pods[1]?.id] });
    await agent.assertNothingLeft();
  } finally {
    await releaseAndStop();
  }
});
