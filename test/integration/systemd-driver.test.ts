/** The systemd cgroup driver, beside a real systemd: what test/systemd/driver-checks.ts finds inside is told here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runUnderSystemd, whatSystemdLacks } from "../support/systemd.js";

const checks = fileURLToPath(new URL("../systemd/driver-checks.js", import.meta.url));
const timeoutMs = 170_000;

test("with systemd as PID 1", { skip: whatSystemdLacks() ?? false }, async (context) => {
  const output = await runUnderSystemd([process.execPath, "--test", "--test-reporter=tap", checks], timeoutMs);
  // a result begins each part; what is told of it follows
  const parts = output.split(/^(?= *(?:not ok|ok) \d+ - )/m).slice(1);
  assert.ok(parts.length > 5 && /^# fail \d+$/m.test(output), output);
  for (const part of parts) {
    const [, name = ""] = /\d+ - (.*)/.exec(part) ?? [];
    await context.test(name, () => assert.doesNotMatch(part, /^ *not ok/));
  }
});
