/** The systemd cgroup driver, beside a real systemd: what test/systemd/driver-checks.ts finds inside is told here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runUnderSystemd, whatSystemdLacks } from "../support/systemd.js";

const checks = fileURLToPath(new URL("../systemd/driver-checks.js", import.meta.url));
const timeoutMs = 170_000;

test("with systemd as PID 1", { skip: whatSystemdLacks() ?? false }, async (context) => {
  const output = await runUnderSystemd([process.execPath, "--test", "--test-reporter=tap", checks], timeoutMs);
  const results = [...output.matchAll(/^ *(not ok|ok) \d+ - (.*)$/gm)];
  assert.ok(results.length > 5 && /^# fail \d+$/m.test(output), output);
  for (const [, result, name] of results) {
    await context.test(String(name), () => assert.equal(result, "ok"));
  }
  if (results.some(([, result]) => result !== "ok")) context.diagnostic(output);
});
