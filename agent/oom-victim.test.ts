import assert from "node:assert/strict";
import { test } from "node:test";
import { victimSentence } from "./oom-victim.js";

test("a victim is told with those among which the kernel chose, the largest first, and not all of many", () => {
  const task = (pid: number) => ({
    pid,
    uid: 0,
    name: `p${pid}`,
    rssBytes: (10 - pid) * 1024 * 1024,
    anonBytes: 0,
    swapBytes: 0,
    oomScoreAdj: 0,
  });
  const report = {
    timeMs: 0,
    askedBy: "p1",
    limited: "/x",
    cgroup: "/x",
    victim: { pid: 1, uid: 0, name: "p1" },
    limitBytes: 16 * 1024 * 1024,
    tasks: [1, 2, 3, 4, 5, 6, 7].map(task),
  };
  assert.equal(
    victimSentence(report),
    "killed p1 (1) at the limit of 16.0 MiB, among p1 (1) 9.0 MiB, p2 (2) 8.0 MiB, p3 (3) 7.0 MiB, p4 (4) 6.0 MiB, " +
      "p5 (5) 5.0 MiB, and 2 smaller ones",
  );
});
