import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { environment } from "./environment.js";
import { processArgs } from "./process-args.js";
import { containerConfig, image } from "./spec-fixtures.js";
import { workingDirectory } from "./working-directory.js";

const both = image({ Entrypoint: ["/entry", "-e"], Cmd: ["cmd"] }).config;

test("command and args take the places of Entrypoint and Cmd as Kubernetes defines", () => {
  const run = (command: string[], args: string[]) => processArgs(containerConfig({ command, args }), both);
  assert.deepEqual(run([], []), ["/entry", "-e", "cmd"]);
  assert.deepEqual(run([], ["a"]), ["/entry", "-e", "a"]);
  assert.deepEqual(run(["c"], []), ["c"]);
  assert.deepEqual(run(["c"], ["a"]), ["c", "a"]);
  const onlyCmd = image({ Entrypoint: [], Cmd: ["sh"] }).config;
  assert.deepEqual(processArgs(containerConfig(), onlyCmd), ["sh"]);
  assert.deepEqual(processArgs(containerConfig({ args: ["a"] }), onlyCmd), ["a"]);
});

test("nothing to run, an empty program and a NUL are refused by name", () => {
  const none = image({ Entrypoint: [], Cmd: [] }).config;
  assert.throws(() => processArgs(containerConfig(), none), invalid(/config\.command: there is nothing to run/));
  assert.throws(() => processArgs(containerConfig({ command: [""] }), none), invalid(/config\.command/));
  assert.throws(() => processArgs(containerConfig({ args: ["a", "b\0"] }), both), invalid(/config\.args\[1\]/));
});

test("the environment: ours, the image's, the request's, HOME last", () => {
  const config = containerConfig({
    tty: true,
    envs: [
      { key: "A", value: Buffer.from("request=1") },
      { key: "EMPTY", value: Buffer.alloc(0) },
      { key: "A", value: Buffer.from("later") },
    ],
  });
  const defaults = image({ Env: ["PATH=/image", "A=image", "B=b=c", "NOVALUE", "=x"] }).config;
  assert.deepEqual(environment(config, defaults, { hostname: "pod1", home: "/h" }), [
    "PATH=/image",
    "HOSTNAME=pod1",
    "TERM=xterm",
    "A=later",
    "B=b=c",
    "EMPTY=",
    "HOME=/h",
  ]);
  const binary = containerConfig({ envs: [{ key: "A", value: Buffer.from([0xff, 0x41]) }] });
  assert.ok(environment(binary, defaults, { hostname: "", home: "/h" }).includes("A=\udcffA"));
  const withHome = containerConfig({ envs: [{ key: "HOME", value: Buffer.from("/mine\nroot::0:0") }] });
  assert.ok(environment(withHome, defaults, { hostname: "", home: "/h" }).includes("HOME=/mine\nroot::0:0"));
});

test("names and values that no environment can hold are refused", () => {
  const set = (key: string, value: Buffer) =>
    environment(containerConfig({ envs: [{ key, value }] }), both, { hostname: "", home: "/" });
  for (const key of ["", "A=B", "A\0"])
    assert.throws(() => set(key, Buffer.from("x")), invalid(/config\.envs\[0\]\.key/));
  assert.throws(() => set("A", Buffer.from("a\0b")), invalid(/config\.envs\[0\]\.value \(of A\): it holds a NUL/));
});

test("ten thousand variables take no time", () => {
  const envs = Array.from({ length: 10_000 }, (_, i) => ({ key: `V${i}`, value: Buffer.from("x") }));
  assert.equal(environment(containerConfig({ envs }), both, { hostname: "", home: "/" }).length, 10_002);
});

test("the working directory: the request's, the image's, the root", () => {
  const at = (request: string, ofImage: string) =>
    workingDirectory(containerConfig({ working_dir: request }), image({ WorkingDir: ofImage }).config);
  assert.equal(at("/a/../b/", "/image"), "/b");
  assert.equal(at("", "/image/"), "/image");
  assert.equal(at("", "app"), "/app");
  assert.equal(at("", ""), "/");
  assert.throws(() => at("relative", ""), invalid(/config\.working_dir: "relative" is not absolute/));
  assert.throws(() => at("/a\0", ""), invalid(/config\.working_dir/));
});

function invalid(pattern: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof InvalidArgumentError && pattern.test(error.message);
}
