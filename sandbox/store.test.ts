import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { PodRecord } from "./pod.js";
import { openStore, update } from "./store.js";

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
    writeFileSync(join(root, "state", "pods", "future.json"), '{"version":2,"id":"future"}');
    const broken: string[] = [];
    const loaded = openStore(root).pods.load((path) => broken.push(path.slice(path.lastIndexOf("/") + 1)));
    assert.deepEqual(
      loaded.map(({ id, phase }) => [id, phase]),
      [["a", "stopping"]],
    );
    assert.deepEqual(broken.sort(), ["future.json", "torn.json"]);
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
