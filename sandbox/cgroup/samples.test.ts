import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import type { CgroupSample } from "./manager.js";
import { openSamples, type SampleFile, type Samples } from "./samples.js";
import { v1SampleFiles } from "./v1-samples.js";
import { v2SampleFiles } from "./v2-samples.js";

const controllers = new Set(["cpu", "cpuset", "io", "memory", "pids"]);

function scratch(t: TestContext, files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), "berth-samples-"));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
  return root;
}

async function sampleOf(files: readonly SampleFile[], path: string): Promise<Partial<CgroupSample> | undefined> {
  const before = Date.now() * 1e6;
  const sample = (await openSamples(files).take([path], true)).get(path);
  if (sample === undefined) return undefined;
  const { timestamp, ...values } = sample;
  assert.ok(timestamp > before - 1e9 && timestamp < Date.now() * 1e6 + 1e9);
  return values;
}

describe("samples without details", () => {
  it("have what the CRI's statistics of containers tell, of both versions", async (t) => {
    const root = scratch(t, {
      "p/memory.usage_in_bytes": "1000\n",
      "p/memory.failcnt": "7\n",
      "p/memory.current": "1000\n",
      "p/memory.peak": "2000\n",
      "p/pids.current": "3\n",
      "p/cgroup.procs": "1\n22\n",
    });
    const v1 = new Map(["cpu", "cpuacct", "memory", "pids"].map((controller) => [controller, root]));
    for (const files of [v1SampleFiles(v1), v2SampleFiles(root, controllers)]) {
      const samples = openSamples(files);
      const { timestamp: _, ...plain } = (await samples.take(["/p"], false)).get("/p") ?? { timestamp: 0 };
      assert.deepEqual(plain, { memoryUsageBytes: 1000, memoryWorkingSetBytes: 1000 });
      const whole = (await samples.take(["/p"], true)).get("/p");
      assert.deepEqual([whole?.processes, whole?.threads], [2, 3]);
    }
  });
});

describe("passes at the same time", () => {
  it("read the same cgroup one after the other, with its files opened once, until it is forgotten", async (t) => {
    const root = scratch(t, { "p/memory.usage_in_bytes": "1000\n", "q/memory.usage_in_bytes": "2000\n" });
    const samples = openSamples(v1SampleFiles(new Map([["memory", root]])));
    const descriptors = () =>
      readdirSync("/proc/self/fd").flatMap((fd) => {
        try {
          const target = readlinkSync(`/proc/self/fd/${fd}`);
          return target.startsWith(root) ? [target.slice(root.length)] : [];
        } catch {
          return [];
        }
      });
    const wanted = [["/p"], ["/q"], ["/p", "/q"], ["/q", "/p", "/p"], ["/p"]];
    const passes = await Promise.all(wanted.map((paths) => samples.take(paths, true)));
    for (const [index, paths] of wanted.entries()) {
      const usages = paths.map((path) => passes[index]?.get(path)?.memoryUsageBytes);
      assert.deepEqual(
        usages,
        paths.map((path) => (path === "/p" ? 1000 : 2000)),
      );
    }
    assert.deepEqual(descriptors().sort(), ["/p/memory.usage_in_bytes", "/q/memory.usage_in_bytes"]);
    samples.forget("/p");
    await samples.take([], true);
    assert.deepEqual(descriptors(), ["/q/memory.usage_in_bytes"]);
  });
});

describe("a cgroup whose processes have not run since the last pass", () => {
  const v1 = {
    "p/cpuacct.usage": "1000\n",
    "p/pids.current": "3\n",
    "p/cpuacct.stat": "user 5\nsystem 7\n",
    "p/memory.usage_in_bytes": "4096\n",
    "p/memory.failcnt": "1\n",
    "p/memory.oom_control": "oom_kill 0\n",
    "p/pids.max": "max\n",
    "p/cgroup.procs": "1\n2\n",
  };
  const v1Roots = (root: string, ...controllers: string[]) =>
    new Map(controllers.map((controller) => [controller, root]));

  function taking(samples: Samples): (details?: boolean) => Promise<Partial<CgroupSample>> {
    return async (details = true) => (await samples.take(["/p"], details)).get("/p") ?? {};
  }

  it("has that alone read again which others change", async (t) => {
    const root = scratch(t, v1);
    const take = taking(openSamples(v1SampleFiles(v1Roots(root, "cpuacct", "memory", "pids"))));
    await take();
    await take();
    writeFileSync(join(root, "p/cpuacct.stat"), "user 6\nsystem 7\n");
    writeFileSync(join(root, "p/cgroup.procs"), "1\n");
    writeFileSync(join(root, "p/memory.usage_in_bytes"), "8192\n");
    writeFileSync(join(root, "p/memory.failcnt"), "2\n");
    writeFileSync(join(root, "p/pids.max"), "9\n");
    const quiet = await take();
    assert.deepEqual([quiet.cpuUserNs, quiet.processes], [50_000_000, 2]);
    assert.deepEqual([quiet.memoryUsageBytes, quiet.memoryFailures, quiet.pidsLimit], [8192, 2, 9]);
    // a pass without details has not seen what a pulse is of
    writeFileSync(join(root, "p/cpuacct.usage"), "1001\n");
    await take(false);
    const ran = await take();
    assert.deepEqual([ran.cpuUserNs, ran.processes], [60_000_000, 1]);
    // one has come that has not run yet
    writeFileSync(join(root, "p/cgroup.procs"), "1\n2\n3\n");
    writeFileSync(join(root, "p/pids.current"), "4\n");
    assert.equal((await take()).processes, 3);
    // and what the last run had set going ends
    writeFileSync(join(root, "p/cpuacct.stat"), "user 6\nsystem 8\n");
    assert.equal((await take()).cpuSystemNs, 80_000_000);
  });

  it("is not known where nothing tells their time", async (t) => {
    const root = scratch(t, v1);
    const take = taking(openSamples(v1SampleFiles(v1Roots(root, "memory", "pids"))));
    await take();
    await take();
    writeFileSync(join(root, "p/memory.oom_control"), "oom_kill 1\n");
    assert.equal((await take()).oomKills, 1);
  });

  it("is another where one was made in its place", async (t) => {
    const root = scratch(t, v1);
    const samples = openSamples(v1SampleFiles(v1Roots(root, "cpuacct", "memory", "pids")));
    const take = taking(samples);
    await take();
    samples.forget("/p");
    rmSync(join(root, "p"), { recursive: true });
    assert.deepEqual(await take(), {});
    mkdirSync(join(root, "p"));
    for (const [name, content] of Object.entries(v1)) writeFileSync(join(root, name), content);
    writeFileSync(join(root, "p/cpuacct.stat"), "user 1\nsystem 1\n");
    assert.equal((await take()).cpuUserNs, 10_000_000);
  });

  it("has v2's peak and events read all the same: what comes from the network is charged to who sleeps", async (t) => {
    const root = scratch(t, {
      "p/cpu.stat": "usage_usec 30\nuser_usec 10\nsystem_usec 20\n",
      "p/pids.current": "3\n",
      "p/memory.peak": "2000\n",
      "p/memory.events": "max 6\noom_kill 1\n",
      "p/cgroup.procs": "1\n2\n",
    });
    const take = taking(openSamples(v2SampleFiles(root, controllers)));
    await take();
    await take();
    writeFileSync(join(root, "p/memory.peak"), "3000\n");
    writeFileSync(join(root, "p/memory.events"), "max 7\noom_kill 1\n");
    writeFileSync(join(root, "p/cgroup.procs"), "1\n");
    const quiet = await take();
    assert.deepEqual([quiet.memoryMaxUsageBytes, quiet.memoryFailures, quiet.processes], [3000, 7, 2]);
    writeFileSync(join(root, "p/cpu.stat"), "usage_usec 31\nuser_usec 11\nsystem_usec 20\n");
    const ran = await take();
    assert.deepEqual([ran.processes, ran.cpuUserNs], [1, 11_000]);
  });
});

describe("v1 samples", () => {
  const roots = (root: string) =>
    new Map(["cpu", "cpuacct", "memory", "pids"].map((controller) => [controller, join(root, controller)]));

  it("count what is below, too", async (t) => {
    const root = scratch(t, {
      "memory/p/x/memory.usage_in_bytes": "1000\n",
      "memory/p/x/memory.stat":
        "cache 1\nrss 2\nmapped_file 3\npgfault 4\npgmajfault 1\nhierarchical_memory_limit 600\n" +
        "hierarchical_memsw_limit 900\ntotal_cache 100\ntotal_rss 200\ntotal_mapped_file 50\ntotal_swap 8\n" +
        "total_pgfault 40\ntotal_pgmajfault 10\ntotal_inactive_file 300\ntotal_active_file 20\n",
      "memory/p/x/memory.limit_in_bytes": "9223372036854771712\n",
      "memory/p/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
      "cpuacct/p/x/cpuacct.usage": "123456789012345\n",
      "cpuacct/p/x/cpuacct.stat": "user 5\nsystem 7\n",
      "cpu/p/x/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 12\n",
      "pids/p/x/pids.current": "3\n",
      "pids/p/x/pids.max": "100\n",
      "pids/p/x/cgroup.procs": "1\n22\n",
      "pids/p/x/below/cgroup.procs": "333\n",
      "pids/p/x/below/further/cgroup.procs": "4444\n",
    });
    assert.deepEqual(await sampleOf(v1SampleFiles(roots(root)), "/p/x"), {
      cpuUsageNs: 123456789012345,
      cpuUserNs: 50_000_000,
      cpuSystemNs: 70_000_000,
      cpuPeriods: 9,
      cpuThrottledPeriods: 3,
      cpuThrottledNs: 12,
      memoryUsageBytes: 1000,
      memoryWorkingSetBytes: 700,
      memoryRssBytes: 200,
      memoryCacheBytes: 100,
      memoryMappedFileBytes: 50,
      memoryInactiveFileBytes: 300,
      memoryActiveFileBytes: 20,
      memoryAndSwapLimitBytes: 900,
      hierarchicalMemoryLimitBytes: 600,
      swapUsageBytes: 8,
      swapLimitBytes: 300,
      pageFaults: 40,
      majorPageFaults: 10,
      ownPageFaults: 4,
      ownMajorPageFaults: 1,
      oomKills: 4,
      processes: 4,
      threads: 3,
      pidsLimit: 100,
    });
  });

  it("never have a negative working set", async (t) => {
    const root = scratch(t, {
      "memory/p/memory.usage_in_bytes": "10\n",
      "memory/p/memory.stat": "total_inactive_file 300\n",
    });
    assert.equal((await sampleOf(v1SampleFiles(roots(root)), "/p"))?.memoryWorkingSetBytes, 0);
  });

  it("are none when the cgroup is gone", async (t) => {
    assert.equal(await sampleOf(v1SampleFiles(roots(scratch(t, {}))), "/p/x"), undefined);
  });
});

describe("v2 samples", () => {
  it("are in nanoseconds and bytes", async (t) => {
    const root = scratch(t, {
      "cpu.pressure": "",
      "memory.pressure": "",
      "p/cpu.stat": "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 1\nnr_throttled 2\nthrottled_usec 3\n",
      "p/memory.current": "1000\n",
      "p/memory.stat": "anon 200\nfile 400\nkernel 30\nfile_mapped 20\ninactive_file 150\npgfault 7\npgmajfault 2\n",
      "p/memory.max": "max\n",
      "p/memory.peak": "2000\n",
      "p/memory.events": "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\noom_group_kill 0\n",
      "p/memory.swap.current": "5\n",
      "p/memory.swap.max": "0\n",
      "p/pids.current": "3\n",
      "p/pids.max": "max\n",
      "p/cgroup.procs": "1\n",
      "p/cpu.pressure":
        "some avg10=1.25 avg60=0.50 avg300=0.00 total=42\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=7\n",
      "p/memory.pressure": "some avg10=0.00 avg60=0.00 avg300=3.00 total=1\n",
    });
    assert.deepEqual(await sampleOf(v2SampleFiles(root, controllers), "/p"), {
      cpuUsageNs: 30_000,
      cpuUserNs: 10_000,
      cpuSystemNs: 20_000,
      cpuPeriods: 1,
      cpuThrottledPeriods: 2,
      cpuThrottledNs: 3000,
      memoryUsageBytes: 1000,
      memoryWorkingSetBytes: 850,
      memoryRssBytes: 200,
      memoryCacheBytes: 400,
      memoryMappedFileBytes: 20,
      memoryInactiveFileBytes: 150,
      memoryMaxUsageBytes: 2000,
      memoryFailures: 6,
      memoryKernelBytes: 30,
      swapUsageBytes: 5,
      swapLimitBytes: 0,
      pageFaults: 7,
      majorPageFaults: 2,
      oomKills: 1,
      processes: 1,
      threads: 3,
      cpuSomeNs: 42_000,
      cpuSomeAvg10: 1.25,
      cpuSomeAvg60: 0.5,
      cpuSomeAvg300: 0,
      cpuFullNs: 7000,
      cpuFullAvg10: 0.1,
      cpuFullAvg60: 0,
      cpuFullAvg300: 0,
      memorySomeNs: 1000,
      memorySomeAvg10: 0,
      memorySomeAvg60: 0,
      memorySomeAvg300: 3,
    });
  });

  it("of a hierarchy without controllers are the pressure alone", (t) => {
    const root = scratch(t, { "io.pressure": "" });
    assert.deepEqual(
      v2SampleFiles(root, new Set()).map(({ file }) => file),
      ["io.pressure"],
    );
  });

  it("are read anew at each pass, through descriptors that stay open", async (t) => {
    const root = scratch(t, { "p/pids.current": "3\n", "q/pids.current": "4\n" });
    const samples = openSamples(v2SampleFiles(root, new Set(["pids"])));
    const threads = async () => {
      const taken = await samples.take(["/p", "/q", "/r"], true);
      return ["/p", "/q", "/r"].map((path) => taken.get(path)?.threads);
    };
    assert.deepEqual(await threads(), [3, 4, undefined]);
    writeFileSync(join(root, "p/pids.current"), "5\n");
    // the name is another's now: what is open tells that it is not asked for by its name again
    renameSync(join(root, "q"), join(root, "r"));
    assert.deepEqual(await threads(), [5, 4, 4]);
    samples.forget("/q");
    assert.deepEqual(await threads(), [5, undefined, 4]);
  });
});
