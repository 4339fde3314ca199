import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Happening } from "./observer.js";
import type { PodRecord } from "./pod.js";
import { learn, openStore, update } from "./store.js";

test("records survive, torn ones and those of another version are told and left out", () => {
  const root = mkdtempSync(join(tmpdir(), "berth-store-"));
  try {
    const pods = openStore(root).pods;
    const record = { version: 1, id: "a", phase: "ready" } as PodRecord;
    const pod = { record };
    pods.put(record);
    update(pods, pod, { phase: "stopping" });
    assert.equal(pod.record.phase, "stopping");
    writeFileSync(join(root, "state", "pods", "torn.json"), '{"version":1,"id":"to');
    writeFileSync(join(root, "state", "pods", "future.json"), '{"version":2,"id":"future"}\n');
    writeFileSync(join(root, "state", "pods", "garbage.json"), "\0\0\n");
    const broken: string[] = [];
    const loaded = openStore(root).pods.load((path) => broken.push(path.slice(path.lastIndexOf("/") + 1)));
    assert.deepEqual(
      loaded.map(({ id, phase }) => [id, phase]),
      [["a", "stopping"]],
    );
    assert.deepEqual(broken.sort(), ["future.json", "garbage.json", "torn.json"]);
    assert.deepEqual(readdirSync(join(root, "state", "pods")).sort(), ["a.json", "future.json", "garbage.json"]);
    pods.delete("a");
    pods.delete("a");
    assert.deepEqual(
      openStore(root).pods.load(() => {}),
      [],
    );
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});

test("a change is a line; one without its end is left out and not continued; many are written as one", () => {
  const root = mkdtempSync(join(tmpdir(), "berth-store-"));
  const path = join(root, "state", "pods", "a.json");
  const lines = () => readFileSync(path, "utf8").trimEnd().split("\n");
  const reopened = () => {
    const { pods } = openStore(root);
    const [record] = pods.load((broken, why) => assert.fail(`${broken}: ${why}`));
    assert.ok(record !== undefined);
    return { pods, pod: { record } };
  };
  try {
    openStore(root).pods.put({ version: 1, id: "a", phase: "starting" } as PodRecord);
    let { pods, pod } = reopened();
    update(pods, pod, { phase: "ready" });
    assert.deepEqual(lines().slice(1), ['{"phase":"ready"}']);

    appendFileSync(path, '{"phase":"stopp');
    ({ pods, pod } = reopened());
    assert.equal(pod.record.phase, "ready");
    update(pods, pod, { phase: "stopped" });
    ({ pods, pod } = reopened());
    assert.equal(pod.record.phase, "stopped");

    for (let i = 0; i < 250; i++) update(pods, pod, { madeCgroupParents: [String(i)] });
    assert.ok(lines().length <= 101, `${lines().length} lines`);
    assert.deepEqual(reopened().pod.record, { ...pod.record, madeCgroupParents: ["249"] });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});

test("what has become so is known while the disk takes nothing, and written when it does again", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const root = mkdtempSync(join(tmpdir(), "berth-store-"));
  const state = join(root, "state");
  const onDisk = () => openStore(root).pods.load((broken, why) => assert.fail(`${broken}: ${why}`));
  const troubles: string[] = [];
  const observer = {
    emit: (happening: Happening) => happening.type === "trouble" && troubles.push(happening.subject),
  };
  try {
    const { pods } = openStore(root, observer);
    const [pod, other, removed] = ["a", "b", "c"].map((id) => ({
      record: { version: 1, id, phase: "ready" } as PodRecord,
    }));
    assert.ok(pod && other && removed);
    for (const { record } of [pod, other, removed]) pods.put(record);
    renameSync(state, `${state}.away`);
    for (const one of [pod, other, removed]) learn(pods, one, { phase: "stopping" });
    assert.deepEqual(troubles, ["a"]);
    assert.throws(() => update(pods, pod, { phase: "stopped" }), /ENOENT/);
    assert.equal(pod.record.phase, "stopping");
    t.mock.timers.tick(5_000);
    renameSync(`${state}.away`, state);
    assert.deepEqual(new Set(onDisk().map(({ phase }) => phase)), new Set(["ready"]));
    learn(pods, other, { phase: "stopped" });
    pods.delete("c");
    t.mock.timers.tick(5_000);
    assert.deepEqual(
      onDisk()
        .map(({ id, phase }) => `${id} ${phase}`)
        .sort(),
      ["a stopping", "b stopped"],
    );
    // a pod whose start has failed, because its record could not be written
    renameSync(state, `${state}.away`);
    const never = { record: { version: 1, id: "d", phase: "starting" } as PodRecord };
    assert.throws(() => learn(pods, never, { network: null }), /ENOENT/);
    renameSync(`${state}.away`, state);
    t.mock.timers.tick(10_000);
    assert.equal(onDisk().length, 2);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
