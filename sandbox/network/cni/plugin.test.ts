import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DeadlineExceededError, FailedPreconditionError, InternalError } from "../../errors.js";
import { PluginError, runPlugin } from "./plugin.js";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "berth-plugin-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** Runs a shell script as a plugin's ADD. */
function run(path: string, script: string, timeoutMs = 10_000) {
  writeFileSync(join(path, "plugin"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const environment = { CNI_CONTAINERID: "id", CNI_NETNS: "/ns", CNI_IFNAME: "eth0", CNI_ARGS: "A=1;B=2" };
  const configuration = { name: "net", cniVersion: "1.0.0" };
  const directories = ["/nowhere", path];
  return runPlugin({ type: "plugin", command: "ADD", directories, environment, configuration, timeoutMs });
}

test("a plugin has its parameters in the environment and its configuration on standard input", async (t) => {
  const path = directory(t);
  const answer = await run(
    path,
    `read -r conf; echo "{\\"env\\": \\"$(env | grep ^CNI_ | sort | tr '\\n' ' ')\\", \\"conf\\": $conf}"`,
  );
  assert.deepEqual(answer, {
    env: `CNI_ARGS=A=1;B=2 CNI_COMMAND=ADD CNI_CONTAINERID=id CNI_IFNAME=eth0 CNI_NETNS=/ns CNI_PATH=/nowhere:${path} `,
    conf: { name: "net", cniVersion: "1.0.0" },
  });
  assert.equal(await run(path, "exit 0"), undefined);
});

for (const [what, script, kind, sentence] of [
  [
    "an error as the specification has it",
    `echo '{"code": 11, "msg": "no", "details": "try later"}'; exit 1`,
    PluginError,
    /CNI plugin plugin ADD failed \(code 11\): no: try later/,
  ],
  ["an error object and code 0", `echo '{"code": 7, "msg": "no"}'`, PluginError, /failed \(code 7\): no/],
  [
    "a code alone",
    "echo broken >&2; exit 3",
    PluginError,
    /failed \(code 3\): it printed nothing; on its standard error: broken/,
  ],
  ["garbage", "echo hello", InternalError, /no JSON: "hello"/],
  ["two results", "echo '{}'; echo '{}'", InternalError, /no JSON/],
  ["a list", "echo '[]'", InternalError, /no JSON object/],
  ["its death", "kill -9 $$", InternalError, /ended by SIGKILL/],
  ["an endless result", "exec yes", InternalError, /printed more than/],
] as const) {
  test(`a plugin answers with ${what}`, async (t) => {
    await assert.rejects(
      run(directory(t), script),
      (error: Error) => error instanceof kind && sentence.test(error.message),
    );
  });
}

test("a plugin that is not there is named, with where it was looked for", async () => {
  const nothing = { environment: {}, configuration: {}, timeoutMs: 1_000 };
  await assert.rejects(
    runPlugin({ type: "gone", command: "DEL", directories: ["/a", "/b"], ...nothing }),
    (error: Error) => error instanceof FailedPreconditionError && /gone is not in \/a, \/b/.test(error.message),
  );
});

test("a gigabyte on standard error is passed over, but for its end", async (t) => {
  const before = process.memoryUsage().rss;
  await assert.rejects(run(directory(t), "head -c 1G /dev/zero >&2; echo the end >&2; exit 1", 60_000), /the end$/);
  assert.ok(process.memoryUsage().rss - before < 200 * 2 ** 20);
});

test("one that hangs is ended in time, with what it has started, though it ignores SIGTERM", async (t) => {
  const path = directory(t);
  const begun = Date.now();
  await assert.rejects(
    run(path, `trap '' TERM; sleep 1000 & echo $! > ${path}/child; echo waiting >&2; wait; sleep 1000`, 300),
    (error: Error) => error instanceof DeadlineExceededError && /within 0\.3 s.*waiting/.test(error.message),
  );
  assert.ok(Date.now() - begun < 10_000);
  await untilGone(Number(readFileSync(join(path, "child"), "utf8")));
});

test("one that closes its output and stays is waited for no longer than one that hangs", async (t) => {
  const script = `echo '{"ips": []}'; exec >&- 2>&-; sleep 1000`;
  await assert.rejects(run(directory(t), script, 300), DeadlineExceededError);
});

test("one that reads nothing of a long configuration answers all the same", async (t) => {
  const path = directory(t);
  writeFileSync(join(path, "deaf"), `#!/bin/sh\nexec <&-; echo '{"ips": []}'\n`, { mode: 0o755 });
  const nothing = { environment: {}, timeoutMs: 10_000, directories: [path] };
  const configuration = { long: "x".repeat(1 << 20) };
  assert.deepEqual(await runPlugin({ type: "deaf", command: "ADD", configuration, ...nothing }), { ips: [] });
});

test("a file that is no program is told as such", async (t) => {
  const path = directory(t);
  writeFileSync(join(path, "text"), "\x7fELF of another machine", { mode: 0o755 });
  const nothing = { environment: {}, configuration: {}, timeoutMs: 10_000 };
  await assert.rejects(
    runPlugin({ type: "text", command: "ADD", directories: [path], ...nothing }),
    /CNI plugin text ADD cannot be executed: .*ENOEXEC/,
  );
});

test("children that a plugin leaves behind end with it, and do not keep it by its pipes", async (t) => {
  const path = directory(t);
  assert.deepEqual(await run(path, `sleep 1000 & echo $! > ${path}/child; echo '{"ips": []}'`), { ips: [] });
  await untilGone(Number(readFileSync(join(path, "child"), "utf8")));
});

async function untilGone(pid: number): Promise<void> {
  const until = Date.now() + 10_000;
  const alive = () => {
    if (!existsSync(`/proc/${pid}`)) return false;
    try {
      return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
    } catch {
      return false;
    }
  };
  while (alive()) {
    assert.ok(Date.now() < until, `process ${pid} is still there`);
    await sleep(10);
  }
}
