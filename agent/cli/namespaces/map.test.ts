import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { type Inodes, kinds, mapNamespaces, type PodProcesses, readChildren, readInodes } from "./map.js";

const host: Inodes = { user: "1", net: "2", mnt: "3", pid: "4" };

function pod(name: string, ...all: Inodes[]): PodProcesses {
  const processes = all.map((inodes, index) => ({
    name: index === 0 ? "monitor" : `c${index}`,
    kind: index === 0 ? ("monitor" as const) : ("container" as const),
    pid: 100 + index,
    inodes,
  }));
  return { id: name, name, namespace: "default", processes };
}

test("a namespace is the host's, the pod's, another pod's or a process's own", () => {
  const [one, other] = mapNamespaces(
    [
      pod("one", { user: "1", net: "20", mnt: "3" }, { user: "1", net: "20", mnt: "30" }),
      pod("other", { user: "1", net: "2", mnt: "40" }, { user: "1", net: "2", mnt: "30" }),
    ],
    host,
  );
  const owners = (processes = one?.processes ?? []) =>
    processes.map(({ namespaces }) => Object.values(namespaces).map(({ owner }) => owner));
  assert.deepEqual(owners(), [
    ["host", "pod", "host"],
    ["host", "pod", "another pod"],
  ]);
  assert.deepEqual(owners(other?.processes), [
    ["host", "host", "own"],
    ["host", "host", "another pod"],
  ]);
});

test("what /proc tells of a process, and of one that is gone", async () => {
  assert.deepEqual(Object.keys(readInodes(process.pid) ?? {}).sort(), [...kinds].sort());
  const child = spawn("sleep", ["60"]);
  assert.ok(readChildren(process.pid).some(({ pid }) => pid === child.pid));
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("exit", resolve));
  assert.equal(readInodes(child.pid ?? 0), undefined);
  assert.deepEqual(readChildren(child.pid ?? 0), []);
});
