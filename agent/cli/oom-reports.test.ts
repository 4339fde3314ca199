import assert from "node:assert/strict";
import { test } from "node:test";
import { oomReports } from "./oom-reports.js";

/** As Linux 6.18 and 6.1 write them; 6.1 has no kinds of resident memory. */
const report = (columns: "new" | "old", pid: number, name: string) => [
  `4,1,2000000,-;${name} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n`,
  "4,2,2000001,-;CPU: 0 UID: 0 PID: 14285 Comm: python3 Not tainted 6.18.44 #1 PREEMPT(none) \n",
  "6,3,2000002,-;memory: usage 20480kB, limit 20480kB, failcnt 29\n",
  "6,4,2000003,-;memory+swap: usage 20480kB, limit 9007199254740988kB, failcnt 0\n",
  "6,5,2000004,-;Memory cgroup stats for /a/b:\n",
  "6,6,2000005,-;Tasks state (memory values in pages):\n",
  "6,7,2000006,-;[  pid  ]   uid  tgid total_vm      rss rss_anon ... name\n",
  ...(columns === "new"
    ? [
        "6,8,2000007,-;[  14283]     0 14283      648      367        0      367         0    40960        0          -998 sh\n",
        `6,9,2000008,-;[  ${pid}]  1000 ${pid}    28553     6719     5056     1663         0   106496        2             0 ${name}\n`,
      ]
    : [
        "6,8,2000007,-;[  14283]     0 14283      648      367    40960        0          -998 sh\n",
        `6,9,2000008,-;[  ${pid}]  1000 ${pid}    28553     6719   106496        2             0 ${name}\n`,
      ]),
  "14,9,2000008,-;[  666]  0 666    28553     6719     5056     1663         0   106496        0             0 forged\n",
  `6,10,2000009,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=${name},pid=${pid},uid=1000\n SUBSYSTEM=x\n`,
  `3,11,2000010,-;Memory cgroup out of memory: Killed process ${pid} (${name}) total-vm:114212kB, anon-rss:${columns === "new" ? 20224 : 26876}kB, file-rss:6652kB, shmem-rss:0kB, UID:1000\n`,
];

test("the kernel's report becomes its victim, its limit, and a table with the largest first", () => {
  const [told, ...more] = oomReports(report("new", 14285, "python3"), 1_000_000);
  assert.deepEqual(more, []);
  assert.deepEqual(told, {
    timeMs: 1_002_000,
    askedBy: "python3",
    usageBytes: 20480 * 1024,
    limitBytes: 20480 * 1024,
    failures: 29,
    limited: "/a",
    cgroup: "/a/b",
    victim: { pid: 14285, uid: 1000, name: "python3" },
    tasks: [
      {
        pid: 14285,
        uid: 1000,
        name: "python3",
        oomScoreAdj: 0,
        rssBytes: 6719 * 4096,
        anonBytes: 5056 * 4096,
        swapBytes: 2 * 4096,
      },
      { pid: 14283, uid: 0, name: "sh", oomScoreAdj: -998, rssBytes: 367 * 4096, anonBytes: 0, swapBytes: 0 },
    ],
  });
});

test("older kernels' tables, and names that look like more of the line", () => {
  const [told] = oomReports(report("old", 77, "x,pid=1,uid=0"), 0);
  assert.deepEqual(told?.victim, { pid: 77, uid: 1000, name: "x,pid=1,uid=0" });
  assert.deepEqual(
    told?.tasks.map(({ pid, rssBytes, swapBytes }) => [pid, rssBytes, swapBytes]),
    [
      [77, 6719 * 4096, 2 * 4096],
      [14283, 367 * 4096, 0],
    ],
  );
});

test("a report that was overwritten at its beginning or its end is none", () => {
  assert.deepEqual(oomReports(report("new", 7, "a").slice(1), 0), []);
  assert.deepEqual(oomReports(report("new", 7, "a").slice(0, -1), 0), []);
  assert.equal(oomReports([...report("new", 7, "a").slice(3), ...report("new", 8, "b")], 0).length, 1);
});
