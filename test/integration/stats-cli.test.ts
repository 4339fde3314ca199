/** `berth stats`, `berth top` and `berth cgroup`, as people type them. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { CgroupValue } from "../../agent/cli/cgroup-values.js";
import type { MemoryNow, WhatIf } from "../../agent/cli/memory-what-if.js";
import type { OomReport } from "../../agent/cli/oom-reports.js";
import type { Usage } from "../../agent/cli/usage.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import {
  createContainer,
  importBusybox,
  long,
  type RunningPod,
  runContainer,
  runPod,
  sh,
  untilWritten,
} from "../support/workload.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const mebibyte = 1 << 20;

describe("what people see of statistics", () => {
  let agent: TestAgent;
  let pod: RunningPod;
  let busy = "";
  let idle = "";

  const berth = async (...args: string[]): Promise<string> => {
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    return (await run(process.execPath, [program, ...args], { env, timeout: 60_000 })).stdout;
  };

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    pod = await runPod(agent);
    busy = await runContainer(agent, pod, { metadata: { name: "busy" }, ...sh("while :; do :; done") });
    idle = await runContainer(agent, pod, {
      metadata: { name: "idle" },
      ...sh("x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo up; while :; do sleep 1000; done"),
      linux: { resources: { memory_limit_in_bytes: long(64 * mebibyte) } },
    });
    await untilWritten(agent, idle, "up");
  });
  after(() => agent.stop());

  it("berth stats tells rates, memory and limits, in the order that is asked for", async () => {
    const [first, second] = JSON.parse(await berth("stats", "--json", "--sort", "cpu")) as Usage[];
    assert.deepEqual([first?.container, second?.container], ["busy", "idle"]);
    assert.ok((first?.cpu ?? 0) > (second?.cpu ?? 0));
    assert.equal(second?.memoryLimitBytes, 64 * mebibyte);
    const lines = (await berth("stats", "--interval", "0.2")).trimEnd().split("\n");
    assert.match(lines[0] ?? "", /^POD +CONTAINER +ID +CPU +MEMORY +LIMIT /);
    assert.match(
      lines[1] ?? "",
      new RegExp(`^test/\\S+ +busy +${busy.slice(0, 12)} +\\d\\.\\d{3} +\\S+ [KM]iB +none `),
    );
    assert.match(lines[2] ?? "", /^test\/\S+ +idle .* 64\.0 MiB /);
    assert.equal(lines.length, 3);
    const one = (await berth("stats", "--interval", "0.2", idle.slice(0, 10))).trimEnd().split("\n");
    assert.equal(one.length, 2);
    await assert.rejects(
      berth("stats", "--interval", "0.1", "nothing"),
      /^berth: no running container has an id that begins with "nothing"$/m,
    );
    const [whole] = JSON.parse(await berth("stats", "--pods", "--json", "--interval", "0.2")) as Usage[];
    assert.equal(whole?.id, pod.id);
    assert.ok((whole?.workingSetBytes ?? 0) > (first?.workingSetBytes ?? 0));
  });

  it("berth top is plain where there is no terminal", async () => {
    const looks = (await berth("top", "--interval", "0.2", "--count", "2", "--sort", "memory")).split("\n\n");
    assert.equal(looks.length, 2);
    for (const look of looks) {
      const [header = "", first = "", second = ""] = look.trimEnd().split("\n");
      assert.match(header, /^POD /);
      assert.match(first, / idle /);
      assert.match(second, / busy /);
    }
  });

  it("refuses what is no number, and an id that is not whole enough, with the code of a wrong command line", async () => {
    // of 17 ids two begin with the same digit
    const many = await Promise.all(Array.from({ length: 17 }, () => createContainer(agent, pod)));
    const digits = many.map((id) => id.slice(0, 1));
    const twice = digits.find((digit, index) => digits.indexOf(digit) !== index) ?? "";
    for (const [args, sentence] of [
      [["stats", "--interval", "soon"], /'soon' is invalid\. A number from 0.1 to 3600 is wanted/],
      [["stats", "--interval", "0"], /'0' is invalid/],
      [["top", "--interval", "1e9"], /'1e9' is invalid/],
      [["top", "--count", "-1"], /'-1' is invalid. A whole number is wanted/],
      [["cgroup", twice], /begins the ids of several containers; give more of it/],
    ] as const) {
      const { code, stdout, stderr } = await runCli(args, { BERTH_SOCKET: agent.socket });
      assert.match(stderr, sentence);
      assert.deepEqual([code, stdout], [2, ""]);
    }
    await Promise.all(many.map((container_id) => agent.client.call("RemoveContainer", { container_id })));
  });

  it("ends without a word when its reader goes", async () => {
    const script = `${process.execPath} ${program} top --interval 0.2 | head -n 1; echo \${PIPESTATUS[0]}`;
    const { stdout, stderr } = await run("bash", ["-c", script], {
      env: { ...process.env, BERTH_SOCKET: agent.socket },
    });
    assert.match(stdout, /^POD .*\n141\n$/);
    assert.equal(stderr, "");
  });

  it("berth top leaves out columns that a narrow terminal has no room for, and leaves the terminal as it was", async () => {
    const top = `stty cols 40 rows 8; exec ${process.execPath} ${program} top --interval 0.2 --count 2`;
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    const { stdout } = await run("script", ["-qec", top, "/dev/null"], { env, timeout: 60_000 });
    const lines = (stdout.split("\u001b[H").at(-1) ?? "").split("\u001b[K").map((line) => line.trim());
    assert.equal(lines[0], "berth top: 2 by cpu");
    assert.match(lines[2] ?? "", /^CONTAINER +CPU +MEMORY/);
    assert.match(lines[3] ?? "", /^busy +\d\.\d{3} /);
    assert.ok(lines.every((line) => line.length <= 40));
    assert.ok(stdout.trimEnd().endsWith("\u001b[?25h\u001b[?1049l"));
  });

  it("berth stats --sort io has the one that writes first", {
    skip: hasIoController() ? false : "this host counts no IO",
  }, async () => {
    const writer = await runContainer(agent, pod, {
      metadata: { name: "writer" },
      ...sh("while :; do dd if=/dev/zero of=/w bs=1M count=4 oflag=direct conv=fsync 2>/dev/null || exit 1; done"),
    });
    try {
      for (const until = Date.now() + 60_000; ; ) {
        const [first] = JSON.parse(await berth("stats", "--json", "--sort", "io", "--interval", "0.5")) as Usage[];
        if (first?.container === "writer" && (first.ioBytes ?? 0) > 0) break;
        assert.ok(Date.now() < until, JSON.stringify(first));
      }
    } finally {
      await agent.client.call("RemoveContainer", { container_id: writer });
    }
  });

  it("berth cgroup tells what another memory limit would mean", async () => {
    const ask = async (limit: string) =>
      JSON.parse(await berth("cgroup", "--json", "--memory-limit", limit, idle.slice(0, 12))) as {
        now: MemoryNow;
        whatIf: WhatIf;
      }[];
    const [roomy] = await ask("64Mi");
    assert.deepEqual(roomy?.whatIf, {
      limitBytes: 64 * mebibyte,
      reclaimedBytes: 0,
      swappedBytes: 0,
      missingBytes: 0,
    });
    assert.ok((roomy?.now.usageBytes ?? 0) > 8_000_000);
    const [tight] = await ask("1Mi");
    assert.ok((tight?.whatIf.missingBytes ?? 0) + (tight?.whatIf.swappedBytes ?? 0) > 6_000_000);
    assert.match(await berth("cgroup", "--memory-limit", "1Mi", idle), /with 1\.0 MiB: .* would be /);
    await assert.rejects(berth("cgroup", "--memory-limit", "much", idle), /"much" is no size/);
  });

  it("berth oom tells of the kernel's victim, and among which it chose", {
    skip: mayReadKernelLog() ? false : "the kernel's log cannot be read here",
  }, async () => {
    const greedy = await runContainer(agent, pod, {
      metadata: { name: "greedy" },
      ...sh("sleep 1000 & while :; do tail -c 200m /dev/zero; done"),
      linux: { resources: { memory_limit_in_bytes: long(32 * mebibyte) } },
    });
    let told: (OomReport & { container: string })[] = [];
    for (const until = Date.now() + 60_000; told.length === 0; ) {
      assert.ok(Date.now() < until, "the kernel has killed nothing");
      told = JSON.parse(await berth("oom", "--json", greedy.slice(0, 12)));
    }
    const [report] = told;
    assert.equal(report?.container, "greedy");
    assert.equal(report?.victim.name, "tail");
    assert.equal(report?.limitBytes, 32 * mebibyte);
    assert.ok(report.tasks.some(({ pid, name }) => pid === report.victim.pid && name === "tail"));
    assert.ok(report.tasks.length >= 3);
    assert.ok(Math.abs(report.timeMs - Date.now()) < 300_000);
    const text = await berth("oom", pod.id.slice(0, 12));
    assert.match(
      text,
      /^\S+Z {2}test\/\S+ greedy [0-9a-f]{12}\n {2}killed: tail \(\d+, uid 0\), when tail asked for more$/m,
    );
    assert.match(text, /^\* \d+ +0 +[23]\d\.\d MiB .* tail$/m);
    assert.match(await berth("oom", idle), /the kernel's log tells of none/);
    await assert.rejects(berth("oom", "feedfacefeed"), /no pod or container is known/);
    await agent.client.call("RemoveContainer", { container_id: greedy });
  });

  it("berth top tells when the agent has gone", async () => {
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    const top = spawn(process.execPath, [program, "top", "--interval", "0.2"], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const told = text(top.stderr);
    const exit = once(top, "exit");
    await once(top.stdout, "data");
    top.stdout.resume();
    await agent.kill9();
    assert.deepEqual(await exit, [3, null]);
    assert.match(await told, /^berth: no agent answers on /);
    await agent.restart();
  });

  it("berth cgroup names the files, which say the same", async () => {
    type Told = { name: string; path: string; values: CgroupValue[] }[];
    const [told, ...none] = JSON.parse(await berth("cgroup", "--json", idle.slice(0, 12))) as Told;
    assert.equal(none.length, 0);
    const limit = told?.values.find(({ what }) => what === "memory limit");
    assert.equal(limit?.value, "64.0 MiB");
    assert.equal(readFileSync(limit?.file ?? "", "utf8"), `${64 * mebibyte}\n`);
    for (const { file } of told?.values ?? []) assert.ok(file.includes(told?.path ?? "?"), file);
    const ofPod = JSON.parse(await berth("cgroup", "--json", pod.id)) as Told;
    assert.deepEqual(
      ofPod.map(({ name }) => name.split(" ")[0]),
      ["parent", "monitor", "container", "container"],
    );
    assert.ok(ofPod.every(({ values }) => values.length > 0));
    assert.match(await berth("cgroup", pod.id.slice(0, 12)), /^container idle {2}\/\S+\n +WHAT +VALUE +FILE\n/m);
    await assert.rejects(berth("cgroup", "feedfacefeed"), /no pod or container is known whose id begins with "feedf/);
  });
});

function hasIoController(): boolean {
  const { hierarchies } = openCgroupManager();
  return hierarchies.some(({ controllers }) => controllers.includes("blkio") || controllers.includes("io"));
}

function mayReadKernelLog(): boolean {
  try {
    closeSync(openSync("/dev/kmsg", "r"));
    return true;
  } catch {
    return false;
  }
}
