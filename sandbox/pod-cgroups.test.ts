import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Containers, Pods } from "./index-of-ids.js";
import type { SandboxNode } from "./node.js";
import type { Pod, PodRecord } from "./pod.js";
import { inPodCgroup, planPodCgroups, removeMadeParents } from "./pod-cgroups.js";
import { Serial } from "./serial.js";
import { openStore } from "./store.js";

test("the parents that two pods share go also when both pods go at once, and the later one is slow", async () => {
  const root = mkdtempSync(join(tmpdir(), "berth-parents-"));
  const directories = new Set(["/h/be", "/h/be/a", "/h/be/b"]);
  const removeParents = async (asked: readonly string[]) => {
    const left: string[] = [];
    for (const directory of [...asked].reverse()) {
      await sleep(directory === "/h/be/b" ? 50 : 0);
      const isEmpty = ![...directories].some((other) => other.startsWith(`${directory}/`));
      if (isEmpty) directories.delete(directory);
      else left.unshift(directory);
    }
    return left;
  };
  const node = {
    pods: new Pods(),
    containers: new Containers(),
    store: openStore(root),
    serial: new Serial(),
    cgroups: { hierarchies: [{ mountPoint: "/h" }], removeParents },
  } as unknown as SandboxNode;
  const going = (id: string, madeCgroupParents: string[]): Promise<void> => {
    const record = { version: 1, id, cgroupParent: `/be/${id}`, madeCgroupParents } as unknown as PodRecord;
    node.store.pods.put(record);
    return removeMadeParents(node, { record } as Pod);
  };
  try {
    await Promise.all([going("a", ["/h/be", "/h/be/a"]), going("b", ["/h/be/b"])]);
    assert.deepEqual([...directories], []);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test("a pod that is planned while parents of its cgroup are being removed has them to care for from the beginning", async () => {
  const root = mkdtempSync(join(tmpdir(), "berth-parents-"));
  const made = ["/h/be", "/h/be/x", "/h/be/y"];
  const plan = () => planPodCgroups(node, { linux: { cgroup_parent: "/be/x" } }, "new").madeCgroupParents;
  let planned: string[] = [];
  const node = {
    pods: new Pods(),
    containers: new Containers(),
    store: openStore(root),
    serial: new Serial(),
    scopes: null,
    cgroupRoot: "/berth",
    cgroups: {
      hierarchies: [{ mountPoint: "/h" }],
      missingParents: () => [],
      removeParents: async () => {
        planned = plan();
        return [];
      },
    },
  } as unknown as SandboxNode;
  const record = { version: 1, id: "old", cgroupParent: "/be/x", madeCgroupParents: made } as unknown as PodRecord;
  try {
    node.store.pods.put(record);
    await removeMadeParents(node, { record } as Pod);
    assert.deepEqual(planned, ["/h/be", "/h/be/x"]);
    assert.deepEqual(plan(), []);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test("a pod's cgroup that systemd tidies away before its monitor is in it is made again", async () => {
  const record = { version: 1, id: "a", scope: { path: "/s/a.scope" } } as unknown as PodRecord;
  const made: string[] = [];
  const node = {
    cgroups: {
      create: async (path: string) => {
        made.push(path);
        return [];
      },
    },
  } as unknown as SandboxNode;
  const gone = (errnoName: string) =>
    Object.assign(new Error(`join cgroup /s/a.scope/tasks: ${errnoName}`), { errnoName });
  // before its file was opened, and before it was written
  const failures = [gone("ENOENT"), gone("ENODEV")];
  const spawn = async () => {
    const failure = failures.shift();
    if (failure !== undefined) throw failure;
    return "monitor";
  };
  assert.equal(await inPodCgroup(node, { record } as Pod, spawn), "monitor");
  assert.deepEqual(made, ["/s/a.scope", "/s/a.scope"]);
  await assert.rejects(
    inPodCgroup(node, { record } as Pod, () => Promise.reject(gone("EPERM"))),
    /EPERM/,
  );
});
