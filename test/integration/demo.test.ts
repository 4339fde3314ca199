/** The demo as its users run it: to its end, and interrupted. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../demo/main.js", import.meta.url));

interface Run {
  child: ChildProcess;
  ended: Promise<unknown>;
  stdout(): string;
  stderr(): string;
}

function start(...args: string[]): Run {
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) child[name].on("data", (chunk) => (texts[name] += chunk));
  return { child, ended: once(child, "close"), stdout: () => texts.stdout, stderr: () => texts.stderr };
}

test("every step is as described", async () => {
  const { child, ended, stdout, stderr } = start();
  await ended;
  assert.equal(child.exitCode, 0, stdout() + stderr());
  for (const screen of [1, 2, 3, 4, 5, 6, 7, 8]) assert.match(stdout(), new RegExp(`^${screen}/8  `, "m"));
  assert.match(stdout(), /^all \d+ checks are as described/m);
  assert.ok(!stdout().includes("✘"));
  assert.ok(!stdout().includes("\x1b"), "no colours where there is no terminal");
});

test("interrupted, it takes away what it made", async () => {
  const { child, ended, stdout, stderr } = start();
  // the second pod is made at the beginning of the third screen
  while (!stdout().includes("3/8")) await once(child.stdout as NonNullable<typeof child.stdout>, "data");
  const base = /unix:\/\/(\/tmp\/b-\w+)\//.exec(stdout())?.[1] ?? "";
  assert.ok(existsSync(base), stdout());
  child.kill("SIGINT");
  await ended;
  assert.equal(child.exitCode, 130, stdout() + stderr());
  assert.match(stderr(), /interrupted by SIGINT[\s\S]*nothing is left/);
  assert.ok(!existsSync(base));
});

test("an argument that it does not know is refused", async () => {
  const { child, ended, stderr } = start("--fast");
  await ended;
  assert.equal(child.exitCode, 1);
  assert.match(stderr(), /--fast/);
});
