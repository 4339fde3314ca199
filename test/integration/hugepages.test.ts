/** Limits of huge pages, on a hugetlbfs that the test mounts. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";

/** Another run of this test may still need it. */
function takeBack(control: string): void {
  try {
    writeFileSync(control, "-hugetlb");
  } catch {
    // then that one takes it back
  }
}

test("a limit of huge pages holds: what is over it is not had", async (t) => {
  const unified = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .find((line) => line.includes(" - cgroup2 "));
  const pages = "/proc/sys/vm/nr_hugepages";
  const root = unified?.split(" ")[4];
  if (root === undefined || !readFileSync(join(root, "cgroup.controllers"), "utf8").includes("hugetlb")) {
    return t.skip("there is no cgroup2 hierarchy with the hugetlb controller");
  }
  const before = readFileSync(pages, "utf8");
  writeFileSync(pages, String(Number(before) + 4));
  const scratch = mkdtempSync(join(tmpdir(), "berth-huge-"));
  const mountinfo = join(scratch, "mountinfo");
  // a host that has this hierarchy alone
  writeFileSync(mountinfo, `${unified}\n`);
  const pool = join(scratch, "pool");
  mkdirSync(pool);
  const path = `/berth-huge-${process.pid}`;
  const manager = openCgroupManager({ mountinfoPath: mountinfo });
  const control = join(root, "cgroup.subtree_control");
  const wasHandedDown = readFileSync(control, "utf8").includes("hugetlb");
  try {
    if (Number(readFileSync(pages, "utf8")) < Number(before) + 4) return t.skip("there is no memory for huge pages");
    const mounted = spawnSync("mount", ["-t", "hugetlbfs", "-o", "pagesize=2M", "none", pool]);
    if (mounted.status !== 0) return t.skip("hugetlbfs cannot be mounted");
    await manager.create(path, { hugepageLimits: [{ pageSize: "2MB", limit: 2 << 20 }] });
    const { cgroup2Directory } = manager.handles(path);
    assert.equal(readFileSync(join(cgroup2Directory, "hugetlb.2MB.max"), "utf8").trim(), String(2 << 20));
    const script = 'echo 0 > "$1/cgroup.procs"; fallocate -l 2M "$2/a" && ! fallocate -l 2M "$2/b" 2>/dev/null';
    const { status, stderr } = spawnSync("sh", ["-c", script, "sh", cgroup2Directory, pool], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    await manager.update(path, { hugepageLimits: [{ pageSize: "2MB", limit: 4 << 20 }] });
    assert.equal(spawnSync("sh", ["-c", 'fallocate -l 2M "$1/c"', "sh", pool]).status, 0);
  } finally {
    spawnSync("umount", [pool]);
    await manager.remove(path);
    writeFileSync(pages, before);
    if (!wasHandedDown) takeBack(control);
    rmSync(scratch, { recursive: true });
  }
});
