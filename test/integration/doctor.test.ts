/** `berth doctor` on a machine that is broken for it, each time in namespaces of its own. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { startAgent } from "../support/agent.js";
import { runPod } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

interface Finding {
  id: string;
  severity: string;
  what: string;
  consequence: string;
  remedy: string;
}

describe("berth doctor", () => {
  let scratch = "";
  let usual: ReadonlySet<string>;
  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), "berth-doctor-"));
    mkdirSync(join(scratch, "root"));
    mkdirSync(join(scratch, "run"));
    mkdirSync(join(scratch, "net.d"));
    usual = new Set((await doctor("true")).found.map(({ what }) => what));
  });
  after(() => rmSync(scratch, { recursive: true }));

  /** What it finds after the shell's commands, in namespaces of `unshare`; less what this machine always lacks. */
  const doctor = async (
    commands: string,
    { namespaces = "-m -n", settings = "", args = ["--no-registries"] as string[] } = {},
  ): Promise<{ code: number | null; found: Finding[] }> => {
    const config = join(mkdtempSync(join(scratch, "config-")), "config.toml");
    writeFileSync(config, `root = "${scratch}/root"\nrun = "${scratch}/run"\n${settings}`);
    const command = [process.execPath, program, "doctor", "--json", "--config", config, ...args];
    const script = `set -e; ${commands}; exec "$@"`;
    const child = spawn("unshare", [...namespaces.split(" "), "sh", "-c", script, "sh", ...command], {
      env: { ...process.env, dir: scratch },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
    assert.equal(stderr, "");
    const found = (JSON.parse(stdout) as Finding[]).filter(({ what }) => usual === undefined || !usual.has(what));
    for (const { what, consequence, remedy } of found) {
      assert.doesNotMatch(what, /\.$/);
      assert.ok(consequence !== "" && remedy.endsWith("."), what);
    }
    return { code: child.exitCode, found };
  };

  const small = "mount -t tmpfs -o size=8m,nr_inodes=2k none $dir/root";
  const cases: [name: string, id: string, code: number, what: RegExp, ...Parameters<typeof doctor>][] = [
    [
      "a full disk",
      "DiskNearlyFull",
      0,
      /free in .*root \(root\)/,
      `${small}; dd if=/dev/zero of=$dir/root/a bs=64k count=120 2>/dev/null`,
    ],
    ["no inodes", "InodesNearlyUsedUp", 0, /inodes are free/, `${small}; seq -f $dir/root/%g 1990 | xargs touch`],
    ["a read-only disk", "ReadOnlyDirectory", 1, /read-only mount/, `${small}; mount -o remount,ro $dir/root`],
    ["no cgroups", "CgroupsMissing", 1, /^no cgroup hierarchy is mounted/, "umount -R -l /sys/fs/cgroup"],
    ["noexec", "MountOption", 1, /noexec/, "mount -t tmpfs -o noexec none $dir/root"],
    ["nosuid", "MountOption", 0, /nosuid/, "mount -t tmpfs -o nosuid none $dir/root"],
    [
      "a file system that overlay cannot write to",
      "FileSystemUnfit",
      1,
      /is on overlay/,
      "mkdir -p $dir/l; mount -t tmpfs none $dir/l; mkdir $dir/l/u $dir/l/w $dir/l/d; " +
        "mount -t overlay -o lowerdir=$dir/l/d,upperdir=$dir/l/u,workdir=$dir/l/w none $dir/root",
    ],
    ["no forwarding", "IpForwardOff", 1, /ip_forward is 0/, "sysctl -qw net.ipv4.ip_forward=0"],
    [
      "a route of somebody's",
      "SubnetOverlap",
      1,
      /10\.88\.3\.0\/24/,
      "ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up; ip route add 10.88.3.0/24 dev d0",
    ],
    [
      "a firewall that forwards nothing",
      "ForwardDrop",
      0,
      /chain ip x forward/,
      "nft 'add table ip x; add chain ip x forward { type filter hook forward priority 0; policy drop; }'",
    ],
    ["a limit of open files", "FewOpenFiles", 0, /open files is 900/, "ulimit -n 900"],
    ["no privileges", "NotPrivileged", 1, /CAP_SYS_ADMIN/, 'set -- setpriv --bounding-set -sys_admin -- "$@"'],
    [
      "no user namespaces",
      "UserNamespacesOff",
      0,
      /max_user_namespaces is 0/,
      "echo 0 > /proc/sys/user/max_user_namespaces",
      { namespaces: "-U -r -m -n" },
    ],
    [
      "no CNI configuration",
      "CniConfigurationMissing",
      1,
      /no CNI network configuration/,
      "true",
      { settings: 'network = "cni"\ncni-conf = "/nowhere"\n' },
    ],
    [
      "another cgroup driver of the kubelet",
      "CgroupDriverMismatch",
      0,
      /cgroupDriver is systemd/,
      "mkdir -p /var/lib/kubelet; mount -t tmpfs none /var/lib/kubelet; echo 'cgroupDriver: systemd' > /var/lib/kubelet/config.yaml",
    ],
    ["a configuration that is refused", "ConfigurationRefused", 1, /bridgee/, "true", { settings: 'bridgee = "x"\n' }],
  ];
  for (const [name, id, code, what, ...how] of cases) {
    it(`finds ${name}`, async () => {
      const { code: ended, found } = await doctor(...how);
      const finding = found.find((one) => one.id === id && what.test(one.what));
      assert.ok(finding, JSON.stringify(found, null, 1));
      assert.equal(ended, code);
      assert.equal(finding.severity === "error", code === 1);
    });
  }

  it("finds a cgroup controller that is missing", async (t) => {
    const { code, found } = await doctor("umount /sys/fs/cgroup/memory 2>/dev/null || true");
    if (!found.some(({ id }) => id === "CgroupControllerMissing")) return t.skip("cgroup v2 has all in one");
    assert.equal(code, 1);
  });

  it("finds a CNI plugin that is missing", async () => {
    const list = { cniVersion: "1.0.0", name: "n", plugins: [{ type: "nosuch" }] };
    writeFileSync(join(scratch, "net.d", "1.conflist"), JSON.stringify(list));
    const settings = `network = "cni"\ncni-conf = "${scratch}/net.d"\n`;
    const { code, found } = await doctor("true", { settings });
    assert.deepEqual([code, found.map(({ id }) => id)], [1, ["CniPluginMissing"]]);
  });

  it("finds registries that cannot be reached, and a clock that is off", async () => {
    const hourAgo = new Date(Date.now() - 3_600_000).toUTCString();
    const server = createServer((request, response) => {
      response.sendDate = false;
      response.setHeader("Date", hourAgo);
      response.writeHead(request.headers.host?.startsWith("127.0.0.1") ? 401 : 404).end();
    });
    server.listen(0);
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const nobody = (closed.address() as AddressInfo).port;
    closed.close();
    await once(closed, "close");
    try {
      const asked = [`127.0.0.1:${port}`, `localhost:${port}`, `127.0.0.1:${nobody}`, "nosuch.invalid"];
      const args = ["--no-registries", ...asked.flatMap((host) => ["--registry", host])];
      const { code, found } = await doctor("true", { namespaces: "-m", args });
      const told = found.map(({ id, what }) => `${id}: ${what}`);
      const has = (pattern: RegExp) =>
        assert.ok(
          told.some((line) => pattern.test(line)),
          told.join("\n"),
        );
      has(new RegExp(`ClockOff: the clock is 36\\d\\d s ahead of that of 127.0.0.1:${port}`));
      has(new RegExp(`RegistryUnreachable: localhost:${port} has no registry's API`));
      has(new RegExp(`RegistryUnreachable: 127.0.0.1:${nobody} cannot be reached: .*ECONNREFUSED`));
      has(/RegistryUnreachable: nosuch\.invalid (?:cannot be reached|does not answer)/);
      assert.ok(!told.some((line) => line.includes(`127.0.0.1:${port} has no`)));
      assert.equal(code, 0);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  it("finds pods that run without an agent, and what an agent has found", async () => {
    const agent = await startAgent();
    const { run, root } = agent.paths;
    const settings = `bridge = "${agent.slot.bridge}"\nsubnet = "${agent.slot.subnet}"\n`;
    const config = join(agent.paths.base, "doctor.toml");
    writeFileSync(config, `run = "${run}"\nroot = "${root}"\n${settings}`);
    const args = ["--no-registries", "--config", config];
    try {
      await runPod(agent);
      const rootfs = join(root, "containers", "f".repeat(64));
      mkdirSync(rootfs);
      const served = await doctor("true", { namespaces: "-m", args });
      assert.deepEqual(
        served.found.filter(({ id }) => id === "Leftovers").map(({ what }) => what),
        [`1 thing of pods that are not known: directory ${rootfs}`],
      );
      rmSync(rootfs, { recursive: true });
      await agent.kill9();
      const { code, found } = await doctor("true", { namespaces: "-m", args });
      assert.ok(found.some(({ id, what }) => id === "PodsWithoutAgent" && /^1 pod runs/.test(what)));
      assert.equal(code, 1);
    } finally {
      await agent.restart();
      await agent.stop();
    }
  });
});
