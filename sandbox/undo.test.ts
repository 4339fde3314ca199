import assert from "node:assert/strict";
import { test } from "node:test";
import { together, Undo } from "./undo.js";

test("undo runs its steps in reverse and goes on past a failing one", async () => {
  const undo = new Undo();
  const ran: string[] = [];
  undo.push("first", () => ran.push("first"));
  undo.push("second", () => {
    ran.push("second");
    throw new Error("stuck");
  });
  undo.push("third", async () => {
    await Promise.resolve();
    ran.push("third");
  });
  const failed = await undo.run();
  assert.deepEqual(ran, ["third", "second", "first"]);
  assert.deepEqual(
    failed.map(({ what, error }) => [what, String(error)]),
    [["second", "Error: stuck"]],
  );
  assert.deepEqual(await undo.run(), []);
});

test("what could not be taken back is not forgotten", async () => {
  for (const stuck of [false, true]) {
    const undo = new Undo();
    const ran: string[] = [];
    undo.pushForgetting("record", () => ran.push("record"));
    undo.push("first", () => ran.push("first"));
    undo.push("second", () => {
      if (stuck) throw new Error("stuck");
    });
    assert.equal((await undo.run()).length, stuck ? 1 : 0);
    assert.deepEqual(ran, stuck ? ["first"] : ["first", "record"]);
  }
});

test("a committed undo does nothing", async () => {
  const undo = new Undo();
  undo.push("never", () => assert.fail("it ran"));
  undo.commit();
  assert.deepEqual(await undo.run(), []);
});

test("steps together are all waited for before a failure is told", async () => {
  let done = false;
  const slow = async () => {
    await new Promise(setImmediate);
    done = true;
  };
  const failing = () => {
    throw new Error("refused");
  };
  await assert.rejects(together(failing, slow), /refused/);
  assert.equal(done, true);
});
