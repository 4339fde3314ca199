import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { buildSpec } from "../spec/build-spec.js";
import { specInput } from "../spec/spec-fixtures.js";
import { checkHookFile, findHooks, type HookFile, isFor } from "./directory.js";
import { withHooks } from "./merge.js";
import { runHook } from "./run-hook.js";

let base: string;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "berth-hooks-"));
});

afterEach(() => rmSync(base, { recursive: true, force: true }));

const subject = { annotations: { "gpu.example/count": "2", x: "y" }, command: "/usr/bin/python3", hasBindMounts: true };
const file = (more: object = {}) => ({
  version: "1.0.0",
  hook: { path: "/usr/bin/hook" },
  when: { always: true },
  stages: ["createRuntime"],
  ...more,
});

test("conditions: all that are named must hold", () => {
  const cases: [HookFile["when"], boolean][] = [
    [{ always: true }, true],
    [{ always: false }, false],
    [{ annotations: { "^gpu\\.example/": "^[0-9]+$" } }, true],
    [{ annotations: { "^gpu\\.example/": "^none$" } }, false],
    [{ annotations: { "^x$": "y", "^z$": "." } }, false],
    [{ commands: ["^/bin/sh$", "python"] }, true],
    [{ commands: ["^/bin/sh$"] }, false],
    [{ hasBindMounts: true }, true],
    [{ hasBindMounts: true, commands: ["perl"] }, false],
    [{ always: true, annotations: { "^x$": "y" } }, true],
  ];
  for (const [when, expected] of cases) assert.equal(isFor(when, subject), expected, JSON.stringify(when));
  assert.equal(isFor({ hasBindMounts: true }, { ...subject, hasBindMounts: false }), false);
});

test("files are read in the order of their names, each for its stages", async () => {
  writeFileSync(join(base, "2.json"), JSON.stringify(file({ hook: { path: "/two", timeout: 3 } })));
  writeFileSync(join(base, "1.json"), JSON.stringify(file({ stages: ["createRuntime", "poststop"] })));
  writeFileSync(join(base, "3.json"), JSON.stringify(file({ when: { always: false } })));
  writeFileSync(join(base, "README"), "no hook");
  const spec = withHooks(buildSpec(specInput()), await findHooks(base, subject));
  assert.deepEqual(spec.hooks, {
    createRuntime: [{ path: "/usr/bin/hook" }, { path: "/two", timeout: 3 }],
    poststop: [{ path: "/usr/bin/hook" }],
  });
  assert.deepEqual(await findHooks(null, subject), []);
  assert.deepEqual(await findHooks(join(base, "absent"), subject), []);
  assert.equal(withHooks(buildSpec(specInput()), []).hooks, undefined);
});

test("a file that cannot be used is an error that names it and the field", async () => {
  const bad: [object, RegExp][] = [
    [file({ version: "0.1.0" }), /version: is not 1\.0\.0/],
    [file({ hook: { path: "hook" } }), /hook\.path: is not an absolute path/],
    [file({ hook: { path: "/h", env: ["A"] } }), /hook\.env\.0/],
    [file({ when: {} }), /when: names no condition/],
    [file({ when: { commands: ["("] } }), /when\.commands\.0: is no regular expression/],
    [file({ stages: [] }), /stages: is empty/],
    [file({ stages: ["never"] }), /stages\.0: is no stage/],
    [file({ more: 1 }), /more/],
  ];
  for (const [content, message] of bad) assert.throws(() => checkHookFile(content), message);
  writeFileSync(join(base, "x.json"), "{");
  await assert.rejects(findHooks(base, subject), /FailedPreconditionError: the hook file .*\/x\.json cannot be used/);
});

test("a hook gets the state, its arguments, its environment and Berth's mark, and nothing else", async () => {
  const out = join(base, "out");
  const args = ["name", "-c", `{ cat; echo; env | sort; echo $0; } > ${out}`];
  await runHook({ run: base }, "createRuntime", { path: "/bin/sh", args, env: ["A=b=c"] }, '{"id":"x"}');
  const lines = readFileSync(out, "utf8").split("\n");
  assert.equal(lines[0], '{"id":"x"}');
  assert.ok(lines.includes("A=b=c"));
  assert.ok(lines.some((line) => /^BERTH_HOOK=[0-9a-f]{32}$/.test(line)));
  assert.ok(!lines.some((line) => line.startsWith("HOME=")));
  assert.deepEqual(readdirSync(join(base, "hooks")), []);
});

test("how a hook fails is told with what it wrote", async () => {
  const hook = (script: string, timeout?: number) =>
    runHook(
      { run: base },
      "poststop",
      { path: "/bin/sh", args: ["sh", "-c", script], ...(timeout !== undefined && { timeout }) },
      "{}",
    );
  await assert.rejects(
    hook("echo one; echo two >&2; exit 3"),
    /the poststop hook \/bin\/sh ended with code 3: one\ntwo$/,
  );
  await assert.rejects(hook("kill -TERM $$"), /was ended by SIGTERM/);
  await assert.rejects(hook("echo slow; sleep 100 & wait", 1), /was not done within 1000 ms: slow$/);
  await assert.rejects(
    runHook({ run: base }, "poststop", { path: "/none/such" }, "{}"),
    /\/none\/such cannot be executed: .*ENOENT/,
  );
  await hook("exec <&-; sleep 0.05");
});
