/** The CRI's rules for resources, when a container is made and when they change. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { leftCgroups } from "../support/leaks.js";
import { containerStatus, fails, long, out, removePod, runContainer, runPod, runToEnd } from "../support/workload.js";
import { placeForRules, type Refusal, refused, refusedContainers } from "./support.js";

let running = "";
const place = placeForRules(async ({ agent, pod }) => {
  running = await runContainer(agent, pod, {
    linux: { resources: { memory_limit_in_bytes: long(64 << 20), cpu_shares: long(512) } },
  });
});

type Resources = runtime.v1.ILinuxContainerResources;
type Row = [rule: string, asked: Resources, code: Refusal<unknown>[2], sentence: RegExp];
const hugepages = (page_size: string, limit: number) => ({ hugepage_limits: [{ page_size, limit: long(limit) }] });
const huge = 9.1e15;

const unifiedWithoutV2: Row = [
  "cgroup v2's files are for hosts that have its controllers",
  { unified: { "memory.high": "64000000" } },
  "INVALID_ARGUMENT",
  /FIELD\.unified\["memory\.high"\]: this host has no cgroup v2 controllers/,
];

/** Where the request has them: "config.linux.resources" or "linux". */
const rows: Row[] = [
  [
    "a CPU period is at least 1 ms",
    { cpu_period: long(999) },
    "INVALID_ARGUMENT",
    /FIELD\.cpu_period: 999 is not within 1000 and 1000000/,
  ],
  ["a CPU period is at most 1 s", { cpu_period: long(1_000_001) }, "INVALID_ARGUMENT", /FIELD\.cpu_period: 1000001/],
  ["a CPU period is not negative", { cpu_period: long(-1) }, "INVALID_ARGUMENT", /FIELD\.cpu_period: -1/],
  ["a CPU quota is at least 1 ms", { cpu_quota: long(999) }, "INVALID_ARGUMENT", /FIELD\.cpu_quota: 999/],
  ["a CPU quota is negative only as -1", { cpu_quota: long(-2) }, "INVALID_ARGUMENT", /FIELD\.cpu_quota: -2/],
  [
    "a CPU quota is one that the kernel can count",
    { cpu_quota: long(9e15) },
    "INVALID_ARGUMENT",
    /cpu_quota 9000000000000000 was refused by the kernel/,
  ],
  ["CPU shares are not negative", { cpu_shares: long(-1) }, "INVALID_ARGUMENT", /FIELD\.cpu_shares: -1 is negative/],
  ["a number has 53 bits", { cpu_shares: long(huge) }, "INVALID_ARGUMENT", /FIELD\.cpu_shares: \d+ is out of range/],
  ["CPUs are a list", { cpuset_cpus: "0-" }, "INVALID_ARGUMENT", /FIELD\.cpuset_cpus: "0-" is no list/],
  ["CPUs are in order", { cpuset_cpus: "3-1" }, "INVALID_ARGUMENT", /FIELD\.cpuset_cpus: "3-1"/],
  ["CPUs are one line", { cpuset_cpus: "0\n" }, "INVALID_ARGUMENT", /FIELD\.cpuset_cpus/],
  ["CPUs are there", { cpuset_cpus: "9999" }, "INVALID_ARGUMENT", /cpuset_cpus "9999" was refused by the kernel/],
  ["memory nodes are a list", { cpuset_mems: "a" }, "INVALID_ARGUMENT", /FIELD\.cpuset_mems: "a" is no list/],
  [
    "memory nodes are there",
    { cpuset_mems: "1023" },
    "INVALID_ARGUMENT",
    /cpuset_mems "1023" was refused by the kernel/,
  ],
  [
    "memory is enough for a process",
    { memory_limit_in_bytes: long(6 * 1024 * 1024 - 1) },
    "INVALID_ARGUMENT",
    /FIELD\.memory_limit_in_bytes: 6291455 is too little; at least 6291456/,
  ],
  [
    "memory is at least a page",
    { memory_limit_in_bytes: long(1) },
    "INVALID_ARGUMENT",
    /FIELD\.memory_limit_in_bytes: 1 is too little/,
  ],
  [
    "memory is negative only as -1",
    { memory_limit_in_bytes: long(-2) },
    "INVALID_ARGUMENT",
    /FIELD\.memory_limit_in_bytes: -2/,
  ],
  [
    "swap counts memory, too",
    { memory_limit_in_bytes: long(64 << 20), memory_swap_limit_in_bytes: long(32 << 20) },
    "INVALID_ARGUMENT",
    /FIELD\.memory_swap_limit_in_bytes: 33554432 counts memory and swap together/,
  ],
  [
    "swap is negative only as -1",
    { memory_limit_in_bytes: long(64 << 20), memory_swap_limit_in_bytes: long(-2) },
    "INVALID_ARGUMENT",
    /FIELD\.memory_swap_limit_in_bytes: -2 is negative/,
  ],
  [
    "a huge page's size is written as 2MB",
    hugepages("2M", 1),
    "INVALID_ARGUMENT",
    /FIELD\.hugepage_limits\[0\]\.page_size: "2M" is no size/,
  ],
  [
    "a huge page's size has no slash",
    hugepages("../2MB", 1),
    "INVALID_ARGUMENT",
    /FIELD\.hugepage_limits\[0\]\.page_size/,
  ],
  [
    "a huge page has a size",
    hugepages("", 1),
    "INVALID_ARGUMENT",
    /FIELD\.hugepage_limits\[0\]\.page_size: "" is no size/,
  ],
  ["a huge page's size is one of the host's", hugepages("3MB", 3 << 20), "FAILED_PRECONDITION", /hugepage_limits 3MB/],
  [
    "cgroup v2's files are controllers'",
    { unified: { "cgroup.procs": "1" } },
    "INVALID_ARGUMENT",
    /FIELD\.unified\["cgroup\.procs"\]: it is no name of a controller's file/,
  ],
  [
    "cgroup v2's files are no paths",
    { unified: { "../memory.max": "1" } },
    "INVALID_ARGUMENT",
    /FIELD\.unified\["\.\.\/memory\.max"\]/,
  ],
  ["cgroup v2's files have a name", { unified: { "": "1" } }, "INVALID_ARGUMENT", /FIELD\.unified\[""\]/],
  ...(openCgroupManager().mode === "v2" ? [] : [unifiedWithoutV2]),
  [
    "a number of processes is one",
    { unified: { "pids.max": "0" } },
    "INVALID_ARGUMENT",
    /FIELD\.unified\["pids\.max"\]: "0" is neither/,
  ],
  [
    "a number of processes is not several lines",
    { unified: { "pids.max": "5\n6" } },
    "INVALID_ARGUMENT",
    /FIELD\.unified\["pids\.max"\]/,
  ],
  [
    "oom_score_adj is at least -1000",
    { oom_score_adj: long(-1001) },
    "INVALID_ARGUMENT",
    /FIELD\.oom_score_adj: -1001 is not within -1000 and 1000/,
  ],
  ["oom_score_adj is at most 1000", { oom_score_adj: long(1001) }, "INVALID_ARGUMENT", /FIELD\.oom_score_adj: 1001/],
];
const inField = (sentence: RegExp, field: string) => new RegExp(sentence.source.replace("FIELD", field));

describe("when a container is made", () => {
  refusedContainers(place, [
    ...rows.map(
      ([rule, resources, code, sentence]): Refusal<runtime.v1.IContainerConfig> => [
        rule,
        { linux: { resources } },
        code,
        inField(sentence, "^config\\.linux\\.resources"),
      ],
    ),
    [
      "swap needs a limit of memory",
      { linux: { resources: { memory_swap_limit_in_bytes: long(64 << 20) } } },
      "INVALID_ARGUMENT",
      /resources\.memory_swap_limit_in_bytes: it needs a memory_limit_in_bytes/,
    ],
  ]);

  test("what is at a limit is taken: the least memory, one CPU share, all CPU shares, the shortest and longest period", async () => {
    const asked: Resources[] = [
      { memory_limit_in_bytes: long(6 << 20) },
      { cpu_shares: long(1) },
      { cpu_shares: long(1_000_000) },
      { cpu_period: long(1000), cpu_quota: long(1000) },
      { cpu_period: long(1_000_000), cpu_quota: long(-1) },
      { memory_limit_in_bytes: long(-1) },
      { memory_limit_in_bytes: long(64 << 20), memory_swap_limit_in_bytes: long(-1) },
      { memory_limit_in_bytes: long(2 ** 52) },
      { oom_score_adj: long(1000) },
      { oom_score_adj: long(-1000) },
      { unified: { "pids.max": "max" } },
      hugepages("3MB", 0),
    ];
    for (const resources of asked) {
      const { status, id } = await runToEnd(place.agent, place.pod, { command: ["true"], linux: { resources } });
      assert.equal(status.exit_code, 0, JSON.stringify(resources));
      await place.agent.client.call("RemoveContainer", { container_id: id });
    }
  });
});

describe("when they change", () => {
  const files = () =>
    leftCgroups(`${place.agent.cgroupRoot}/${running}`)
      .flatMap((directory) =>
        [
          "memory.limit_in_bytes",
          "memory.memsw.limit_in_bytes",
          "memory.max",
          "memory.swap.max",
          "cpu.shares",
          "cpu.weight",
          "cpu.cfs_quota_us",
          "cpu.max",
          "cpuset.cpus",
          "cpuset.mems",
          "pids.max",
        ].map((name) => join(directory, name)),
      )
      .filter(existsSync)
      .map((path) => `${path} ${readFileSync(path, "utf8")}`);
  let before: string[];
  // what is right in the same request must not be applied either
  const asked = (linux: Resources) => () => {
    before = files();
    return { cpu_shares: long(300), ...linux };
  };
  refused(
    place,
    rows.map(
      ([rule, linux, code, sentence]): Refusal<Resources> => [
        `${rule}: nothing is changed`,
        asked(linux),
        code,
        inField(sentence, "^linux"),
      ],
    ),
    async (linux) => {
      try {
        await place.agent.client.call("UpdateContainerResources", { container_id: running, linux });
      } finally {
        assert.ok(before.length > 0);
        assert.deepEqual(files(), before);
        assert.equal(String((await containerStatus(place.agent, running)).resources?.linux?.cpu_shares), "512");
      }
    },
  );
  refused<runtime.v1.IUpdateContainerResourcesRequest>(
    place,
    [
      ["a container is needed", { linux: {} }, "INVALID_ARGUMENT", /^container_id is missing/],
      ["it is there", { container_id: "e".repeat(64), linux: {} }, "NOT_FOUND", /container "e{64}" is not known/],
      ["Linux' resources are needed", () => ({ container_id: running }), "INVALID_ARGUMENT", /^linux is missing/],
    ],
    (request) => place.agent.client.call("UpdateContainerResources", request),
  );

  test("of a container that has ended nothing can be changed", async () => {
    const { id } = await runToEnd(place.agent, place.pod, { command: ["true"] });
    await fails(
      place.agent.client.call("UpdateContainerResources", { container_id: id, linux: { cpu_shares: long(5) } }),
      "FAILED_PRECONDITION",
      /container [0-9a-f]+ is exited/,
    );
  });

  test("a pod's new size is told, and its containers stay as they are", async () => {
    const pod = await runPod(place.agent);
    const id = await runContainer(place.agent, pod);
    await place.agent.client.call("UpdatePodSandboxResources", {
      pod_sandbox_id: pod.id,
      resources: { cpu_shares: long(99) },
    });
    const { info } = await place.agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id, verbose: true });
    assert.match(info["info"] ?? "", /"cpu_shares":"99"/);
    assert.equal(await out(place.agent, id, "echo alive"), "alive");
    await removePod(place.agent, pod);
  });
});
