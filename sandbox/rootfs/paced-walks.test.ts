import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { PacedWalks } from "./paced-walks.js";

describe("walks at a pace", () => {
  let root: string;
  let large: string;
  let small: string;
  const directories = 40;
  const filesInEach = 100;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "berth-walks-"));
    large = join(root, "large");
    small = join(root, "small");
    await mkdir(small);
    for (let directory = 0; directory < directories; directory++) {
      await mkdir(join(large, String(directory)), { recursive: true });
      for (let file = 0; file < filesInEach; file++) await writeFile(join(large, String(directory), String(file)), "");
    }
  });
  after(() => rm(root, { recursive: true }));

  it("count a tree in steps as in one", async () => {
    const { inodes, bytes } = await new PacedWalks({ stepMs: 0, msAMinute: 60_000 }).measure(large);
    assert.equal(inodes, 1 + directories + directories * filesInEach);
    assert.deepEqual(await new PacedWalks().measure(large), { inodes, bytes });
  });

  it("take turns, so that a small tree does not wait for a large one", async () => {
    const walks = new PacedWalks({ stepMs: 0, msAMinute: 60_000 });
    const order: string[] = [];
    await Promise.all([
      walks.measure(large).then(() => order.push("large")),
      walks.measure(small).then(() => order.push("small")),
    ]);
    assert.deepEqual(order, ["small", "large"]);
  });

  it("rest when their time is used up", async () => {
    // steps of 64 entries, the first of which takes all there is
    const walks = new PacedWalks({ stepMs: 0, msAMinute: 0.001 });
    const measured = walks.measure(large).then(() => "measured");
    const rested = new Promise((resolve) => setTimeout(resolve, 200, "rested"));
    assert.equal(await Promise.race([measured, rested]), "rested");
  });

  it("fail for what is not there, and go on", async () => {
    const walks = new PacedWalks();
    const [failed, measured] = await Promise.allSettled([walks.measure(join(root, "none")), walks.measure(small)]);
    assert.equal(failed.status === "rejected" && failed.reason.errnoName, "ENOENT");
    assert.equal(measured.status === "fulfilled" && measured.value.inodes, 1);
  });
});
