import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseHierarchies } from "./hierarchies.js";

const line = (mountPoint: string, type: string, options: string, root = "/") =>
  `40 31 0:30 ${root} ${mountPoint} rw,relatime shared:9 - ${type} ${type} ${options}`;

describe("parseHierarchies", () => {
  it("finds controllers mounted alone and together, named hierarchies and cgroup2", () => {
    const mountinfo = [
      "22 27 0:21 / /proc rw,relatime - proc proc rw",
      line("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
      line("/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
      line("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,release_agent=/x,name=systemd"),
      line("/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate"),
      "",
    ].join("\n");
    assert.deepEqual(
      parseHierarchies(mountinfo, (mountPoint) => [mountPoint]),
      [
        { mountPoint: "/sys/fs/cgroup/cpu,cpuacct", version: 1, controllers: ["cpu", "cpuacct"], name: "" },
        { mountPoint: "/sys/fs/cgroup/memory", version: 1, controllers: ["memory"], name: "" },
        { mountPoint: "/sys/fs/cgroup/systemd", version: 1, controllers: [], name: "systemd" },
        { mountPoint: "/sys/fs/cgroup/unified", version: 2, controllers: ["/sys/fs/cgroup/unified"], name: "" },
      ],
    );
  });

  it("takes a hierarchy once, by the first mount that shows the whole of it", () => {
    const mountinfo = [
      line("/run/part", "cgroup2", "rw", "/docker/1"),
      line("/sys/fs/cgroup", "cgroup2", "rw"),
      line("/mnt/again", "cgroup2", "rw"),
    ].join("\n");
    const looked: string[] = [];
    const found = parseHierarchies(mountinfo, (mountPoint) => {
      looked.push(mountPoint);
      return [];
    });
    assert.deepEqual(
      found.map(({ mountPoint }) => mountPoint),
      ["/sys/fs/cgroup"],
    );
    // the others may be gone by now
    assert.deepEqual(looked, ["/sys/fs/cgroup"]);
  });

  it("reads escaped mount points", () => {
    const [found] = parseHierarchies(line("/a\\040b\\134c", "cgroup", "rw,pids"), () => []);
    assert.equal(found?.mountPoint, "/a b\\c");
  });
});
