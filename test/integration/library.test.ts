/** Berth in a program's own process, and the example of docs/library.md as it is written. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { BerthError, Runtime, type RuntimeEvent } from "../../agent/library/index.js";
import { native } from "../../native/binding.js";
import { removeBuiltinNetwork } from "../../sandbox/network/builtin.js";
import { buildBusyboxImage, writeOciLayout } from "../support/image-builder.js";
import { assertNothingLeft } from "../support/leaks.js";
import { claimSlot, type Slot } from "../support/slot.js";

const repository = fileURLToPath(new URL("../../../", import.meta.url));
const image = "berth.test/busybox:1";
let base: string;
let slot: Slot;
let archive: string;

before(async () => {
  base = mkdtempSync("/tmp/bl-");
  slot = claimSlot();
  archive = join(base, "layout");
  await writeOciLayout(archive, await buildBusyboxImage({ compression: "none" }), image);
});
after(async () => {
  const { run, root, "netns-dir": netns, "cgroup-root": cgroupRoot } = settings();
  await assertNothingLeft({ base, run, root, netns, cgroupRoot, bridge: slot.bridge });
  await removeBuiltinNetwork(native, slot.bridge);
  rmSync(base, { recursive: true });
  slot.release();
});

function settings() {
  return {
    root: join(base, "root"),
    run: join(base, "run"),
    "netns-dir": join(base, "netns"),
    // what the host has for other programs is none of its business
    "cni-conf": join(base, "cni"),
    bridge: slot.bridge,
    subnet: slot.subnet,
    "cgroup-root": `/berth-test-library-${process.pid}`,
  };
}

async function fails(work: Promise<unknown>, kind: string, sentence: RegExp): Promise<void> {
  await assert.rejects(work, (error: Error) => {
    assert.ok(error instanceof BerthError, String(error));
    assert.equal(error.kind, kind);
    assert.match(error.message, sentence);
    return true;
  });
}

test("a pod, its containers, their lines and ends, programs in them, and what happens", async () => {
  const runtime = await Runtime.open(settings());
  try {
    await fails(Runtime.open(settings()), "FAILED_PRECONDITION", /another agent works in/);
    await runtime.import(archive);
    assert.match(await runtime.pull(image), /^sha256:/);

    const events: RuntimeEvent[] = [];
    const heard = new AbortController();
    const hearing = (async () => {
      for await (const event of runtime.events(heard.signal)) events.push(event);
    })();
    hearing.catch(() => undefined);

    const pod = await runtime.runPod({ name: "first" });
    assert.match((await pod.addresses())[0] ?? "", /^10\.244\./);
    const job = await pod.run({
      image,
      command: ["sh", "-c", 'echo "$GREETING"; echo to stderr >&2; head -c 40000 /dev/zero | tr "\\0" x; exit 3'],
      env: { GREETING: "good morning" },
    });
    const lines: Record<string, string[]> = { stdout: [], stderr: [] };
    for await (const { stream, text } of job.lines()) lines[stream]?.push(text);
    assert.deepEqual(lines["stderr"], ["to stderr"]);
    // the last one has no end of its own, and is longer than a record
    assert.deepEqual(lines["stdout"], ["good morning", "x".repeat(40_000)]);
    assert.deepEqual(await job.wait(), { exitCode: 3, reason: "Error" });

    const server = await pod.run({ image, name: "server", command: ["sleep", "1000"], memoryBytes: 64 << 20 });
    const { exitCode, stdout, stderr } = await server.exec(["sh", "-c", "hostname; echo no >&2; exit 5"]);
    assert.deepEqual([exitCode, stdout.toString(), stderr.toString()], [5, "first\n", "no\n"]);
    await fails(server.wait(AbortSignal.timeout(100)), "CANCELLED", /waits no more/);
    await server.stop(0);
    assert.deepEqual(await server.wait(), { exitCode: 137, reason: "Error" });

    await fails(pod.run({ image: "berth.test/none:1" }), "NOT_FOUND", /berth\.test\/none/);
    await fails(pod.run({ image, command: ["/no/such/program"] }), "INVALID_ARGUMENT", /no\/such\/program/);
    await pod.remove();
    heard.abort();
    await hearing;
    assert.deepEqual(
      events.filter(({ containerId }) => containerId === job.id).map(({ type }) => type),
      ["created", "started", "stopped", "deleted"],
    );
    assert.deepEqual(
      events.filter(({ containerId }) => containerId === pod.id).map(({ type }) => type),
      ["created", "started", "stopped", "deleted"],
    );
  } finally {
    runtime.close();
  }
});

test("pods outlive the one who made them, and the next one finds them", async () => {
  const first = await Runtime.open(settings());
  await first.import(archive);
  const pod = await first.runPod({ name: "stays" });
  await pod.run({ image, command: ["sleep", "1000"] });
  first.close();
  const second = await Runtime.open(settings());
  try {
    const [found, ...more] = second.pods();
    assert.equal(more.length, 0);
    assert.equal(found?.id, pod.id);
    await found?.remove();
    assert.deepEqual(second.pods(), []);
  } finally {
    second.close();
  }
});

test("the CI runner of the documentation, as it is written", async () => {
  const pipeline = join(base, "pipeline.json");
  const write = (steps: object[]) => writeFileSync(pipeline, JSON.stringify({ name: "demo", image, archive, steps }));
  const env = {
    ...process.env,
    CI_STATE: join(base, "ci"),
    CI_BRIDGE: slot.outsideBridge,
    CI_SUBNET: slot.outsideSubnet,
    CI_CGROUP: settings()["cgroup-root"],
  };
  const run = () =>
    promisify(execFile)(process.execPath, [join(repository, "docs/examples/ci-runner.mjs"), pipeline], { env }).then(
      ({ stdout }) => ({ code: 0, stdout }),
      (error: { code: number; stdout: string }) => ({ code: error.code, stdout: error.stdout }),
    );
  write([
    { name: "build", run: "echo 42 > answer; echo built" },
    { name: "test", run: 'grep 42 answer; echo "on $CI" >&2' },
  ]);
  const good = await run();
  assert.equal(good.code, 0, good.stdout);
  assert.match(good.stdout, /^build stdout\| built\nbuild: Completed, exit code 0\n/);
  assert.match(good.stdout, /test stdout\| 42\n/);
  assert.match(good.stdout, /test stderr\| on true\n/);
  write([
    { name: "hangs", run: "sleep 1000", timeoutSeconds: 1 },
    { name: "never", run: "true" },
  ]);
  const bad = await run();
  assert.equal(bad.code, 1);
  assert.equal(bad.stdout, "hangs: took too long\n");
  await removeBuiltinNetwork(native, slot.outsideBridge);
});
