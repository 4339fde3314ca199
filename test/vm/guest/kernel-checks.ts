/** What the machine itself must offer before a runtime's tests mean anything; run inside the guest only. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const cgroupRoot = "/sys/fs/cgroup";
const cgroup2Magic = 0x63677270;
const shell = (script: string): string => execFileSync("/bin/sh", ["-ec", script], { encoding: "utf8" });

describe("the guest", () => {
  it("runs a kernel of Debian's", () => {
    assert.match(readFileSync("/proc/version", "utf8"), /^Linux version 6\.\S+-cloud-amd64 .*debian/i);
  });

  it("has cgroup v2 alone, with the controllers that pods need", () => {
    assert.equal(statfsSync(cgroupRoot).type, cgroup2Magic);
    const controllers = readFileSync(join(cgroupRoot, "cgroup.controllers"), "utf8").trim().split(" ");
    for (const name of ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"])
      assert.ok(controllers.includes(name), name);
    assert.doesNotMatch(readFileSync("/proc/self/mountinfo", "utf8"), / - cgroup /);
    assert.equal(readFileSync("/proc/self/cgroup", "utf8"), "0::/\n");
  });

  it("kills a whole cgroup by cgroup.kill", async () => {
    const cgroup = join(cgroupRoot, "check-kill");
    mkdirSync(cgroup);
    const child = spawn("/bin/sleep", ["600"]);
    try {
      writeFileSync(join(cgroup, "cgroup.procs"), String(child.pid));
      writeFileSync(join(cgroup, "cgroup.kill"), "1");
      const [, signal] = await once(child, "exit");
      assert.equal(signal, "SIGKILL");
    } finally {
      child.kill("SIGKILL");
      rmdirSync(cgroup);
    }
  });

  it("limits memory and counts the kill", async () => {
    writeFileSync(join(cgroupRoot, "cgroup.subtree_control"), "+memory");
    const cgroup = join(cgroupRoot, "check-oom");
    mkdirSync(cgroup);
    try {
      writeFileSync(join(cgroup, "memory.max"), String(16 << 20));
      const script = `echo $$ >${cgroup}/cgroup.procs; exec /bin/dd if=/dev/zero of=/dev/null bs=64M count=1`;
      const child = spawn("/bin/sh", ["-c", script], { stdio: "ignore" });
      const [, signal] = await once(child, "exit");
      assert.equal(signal, "SIGKILL");
      assert.match(readFileSync(join(cgroup, "memory.events"), "utf8"), /^oom_kill 1$/m);
    } finally {
      rmdirSync(cgroup);
      writeFileSync(join(cgroupRoot, "cgroup.subtree_control"), "-memory");
    }
  });

  it("mounts an overlay on its disk", () => {
    const directory = mkdtempSync("/var/tmp/check-overlay-");
    try {
      const output = shell(`cd ${directory}; mkdir lower upper work root; echo below >lower/file
        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay root
        echo above >>root/file; umount root; cat lower/file upper/file`);
      assert.equal(output, "below\nbelow\nabove\n");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("has bridge, veth and network namespaces", () => {
    const output = shell(`ip link add check-br type bridge; ip link add check-a type veth peer name check-b
      ip link set check-a master check-br; ip -o link show check-a; ip link del check-a; ip link del check-br`);
    assert.match(output, /master check-br/);
    assert.ok(existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables"));
  });

  it("has loopback", async () => {
    const server = createServer((_request, response) => response.end("here"));
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "here");
    server.close();
  });

  it("masquerades by nftables", (context) => {
    if (!existsSync("/usr/sbin/nft")) return context.skip("the host that built the image has no nft");
    const output = shell(`nft 'table inet check { chain post {
      type nat hook postrouting priority 100; ip saddr 10.99.0.0/24 ip daddr != 10.99.0.0/24 masquerade; }; }'
      nft list table inet check; nft delete table inet check`);
    assert.match(output, /masquerade/);
  });

  it("loads the native addon", (context) => {
    const addon = fileURLToPath(new URL("../../../../build/berth.node", import.meta.url));
    if (!existsSync(addon)) return context.skip("build/berth.node was not built");
    const loaded = { exports: {} };
    process.dlopen(loaded, addon);
    assert.notEqual(Object.keys(loaded.exports).length, 0);
  });

  it("starts the monitor and the unpacker", (context) => {
    for (const name of ["berth-monitor", "berth-unpack", "berth-archive"]) {
      const path = fileURLToPath(new URL(`../../../../build/${name}`, import.meta.url));
      if (!existsSync(path)) return context.skip(`build/${name} was not built`);
      // without its descriptors each refuses to work, which shows that the program loads and runs
      assert.throws(
        () => execFileSync(path, { stdio: "pipe", timeout: 20_000 }),
        (error: { status: number | null }) => {
          return error.status !== null && error.status !== 127;
        },
      );
    }
  });
});
