/** What a container may and may not do: users, capabilities, seccomp, read-only and masked paths, mounts, devices. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { exec, importBusybox, out, type RunningPod, runContainer, runPod, runToEnd, sh } from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

/** What a script writes in a container with this security context. */
async function outputOf(script: string, security_context: object = {}, more: object = {}): Promise<string> {
  const { output } = await runToEnd(agent, pod, { ...sh(script), linux: { security_context }, ...more });
  return output.trimEnd();
}

describe("users", () => {
  const ids = "echo $(id -u):$(id -g):$(sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status)";

  test("root by default, with the groups that the image gives it", async () => {
    assert.equal(await outputOf(ids), "0:0:0");
  });

  test("by number, with and without a group", async () => {
    assert.match(await outputOf(ids, { run_as_user: { value: 1000 } }), /^1000:1000:/);
    assert.match(await outputOf(ids, { run_as_user: { value: 4242 } }), /^4242:0:/);
    assert.match(await outputOf(ids, { run_as_user: { value: 4242 }, run_as_group: { value: 77 } }), /^4242:77:/);
  });

  test("by name: the group and the supplementary groups of the image", async () => {
    assert.match(await outputOf(ids, { run_as_username: "app" }), /^1000:1000:(1000 )?2000$/);
  });

  test("supplemental groups: merged with the image's, or strictly those of the request", async () => {
    const run_as_user = { value: 1000 };
    const merged = await outputOf(ids, { run_as_user, supplemental_groups: [5000] });
    assert.deepEqual(new Set(merged.split(":")[2]?.split(" ")).has("5000"), true);
    assert.ok(merged.includes("2000"));
    const strict = { run_as_user, supplemental_groups: [5000], supplemental_groups_policy: 1 };
    assert.ok(!(await outputOf(ids, strict)).includes("2000"));
  });

  test("the image's user", async () => {
    await importBusybox(agent, "berth.test/user:1", { config: { User: "app:extra" } });
    assert.match(await outputOf(ids, {}, { image: { image: "berth.test/user:1" } }), /^1000:2000:/);
  });
});

describe("privileges", () => {
  const status = (field: string) => `sed -n 's/^${field}:[[:space:]]*//p' /proc/self/status`;
  const capability = async (field: string, context: object = {}) =>
    BigInt(`0x${await outputOf(status(field), context)}`);

  test("the default capabilities, nothing inheritable or ambient", async () => {
    for (const field of ["CapBnd", "CapPrm", "CapEff"]) assert.equal(await capability(field), 0xa80425fbn, field);
    for (const field of ["CapInh", "CapAmb"]) assert.equal(await capability(field), 0n, field);
  });

  test("add and drop", async () => {
    const netAdmin = 1n << 12n;
    assert.equal(await capability("CapEff", { capabilities: { drop_capabilities: ["ALL"] } }), 0n);
    assert.equal(
      await capability("CapEff", { capabilities: { add_capabilities: ["NET_ADMIN"] } }),
      0xa80425fbn | netAdmin,
    );
    const chown = { capabilities: { drop_capabilities: ["CHOWN"] } };
    assert.match(await outputOf("chown 1 /tmp 2>&1; true", chown), /not permitted/);
  });

  test("a user who is not root has none", async () => {
    assert.equal(await capability("CapEff", { run_as_user: { value: 1000 } }), 0n);
  });

  test("no_new_privs as asked", async () => {
    assert.equal(await outputOf(status("NoNewPrivs")), "0");
    assert.equal(await outputOf(status("NoNewPrivs"), { no_new_privs: true }), "1");
  });

  test("the default seccomp profile refuses what a container has no use for; unconfined does not", async () => {
    const unconfined = { seccomp: { profile_type: 1 } };
    assert.equal(await outputOf(status("Seccomp"), { seccomp: { profile_type: 0 } }), "2");
    assert.equal(await outputOf(status("Seccomp"), unconfined), "0");
    const newNamespace = "unshare --user true 2>&1; echo $?";
    assert.match(await outputOf(newNamespace, { seccomp: { profile_type: 0 } }), /not permitted[\s\S]*1$/);
  });

  test("a privileged container has the agent's capabilities, the host's devices, and writable /sys", async () => {
    const privilegedPod = await runPod(agent, { linux: { security_context: { privileged: true } } });
    const id = await runContainer(agent, privilegedPod, { linux: { security_context: { privileged: true } } });
    const own = /^CapPrm:\s*(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    assert.equal(await out(agent, id, status("CapEff")), own);
    assert.equal(await out(agent, id, status("Seccomp")), "0");
    assert.match(await out(agent, id, "ls /dev"), /^loop-control$/m);
    assert.match(await out(agent, id, "grep ' /sys sysfs ' /proc/mounts"), /^sysfs \/sys sysfs rw/);
  });
});

describe("file systems", () => {
  test("a read-only root, with a writable mount in it", async () => {
    const directory = join(agent.paths.base, "writable");
    mkdirSync(directory);
    const output = await outputOf(
      "touch /x 2>&1; touch /data/y && echo written",
      { readonly_rootfs: true },
      { mounts: [{ container_path: "/data", host_path: directory }] },
    );
    assert.match(output, /Read-only file system\nwritten$/);
    assert.ok(existsSync(join(directory, "y")));
  });

  test("paths that are masked show nothing, those that are read-only cannot be written", async () => {
    const masked = { masked_paths: ["/proc/kcore", "/proc/keys", "/sys/firmware"], readonly_paths: ["/proc/sys"] };
    assert.equal(await outputOf("wc -c < /proc/keys", masked), "0");
    assert.equal(await outputOf("ls /sys/firmware | wc -l", masked), "0");
    assert.match(await outputOf("(echo 1 > /proc/sys/net/ipv4/ip_forward) 2>&1; true", masked), /Read-only|denied/);
    assert.match(await outputOf("(echo 1 > /sys/kernel/profiling) 2>&1; true", masked), /Read-only|denied/);
  });

  test("the standard devices and mounts are there, the host's disks are not", async () => {
    const output = await outputOf(
      "for d in null zero full random urandom tty; do test -c /dev/$d || echo $d; done; ls /dev",
    );
    assert.deepEqual(output.split("\n").sort(), [
      ...(existsSync("/proc/kcore") ? ["core"] : []),
      ..."fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split(" "),
    ]);
    assert.equal(await outputOf("head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo ok"), "3\nok");
    const mounts = await outputOf("cut -d' ' -f2,3 /proc/mounts");
    for (const line of [
      "/ overlay",
      "/proc proc",
      "/dev tmpfs",
      "/dev/pts devpts",
      "/dev/mqueue mqueue",
      "/sys sysfs",
    ]) {
      assert.ok(mounts.split("\n").includes(line), `${line} in ${mounts}`);
    }
    assert.match(await outputOf("mknod /tmp/sda b 8 0 2>&1 && head -c1 /tmp/sda 2>&1; true"), /not permitted/);
  });

  test("a container's cgroup file system is its own and read-only", async () => {
    assert.match(await outputOf("grep -c cgroup /proc/mounts"), /^[1-9]/);
    const script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>/dev/null && echo $d; done; true";
    assert.equal(await outputOf(script), "");
    // its root is where the container's processes are
    const places = (await outputOf("cut -d: -f3- /proc/self/cgroup")).split("\n");
    assert.deepEqual([...new Set(places)], ["/"]);
  });

  test("bind mounts: directories, files, read-only, and missing targets are made", async () => {
    const directory = join(agent.paths.base, "volume");
    mkdirSync(join(directory, "below"), { recursive: true });
    const file = join(directory, "file");
    writeFileSync(file, "content\n");
    const id = await runContainer(agent, pod, {
      mounts: [
        { container_path: "/a/deep/target", host_path: directory },
        { container_path: "/etc/motd", host_path: file, readonly: true },
        { container_path: "/ro", host_path: directory, readonly: true },
      ],
    });
    assert.equal(await out(agent, id, "cat /a/deep/target/file /etc/motd; ls /ro"), "content\ncontent\nbelow\nfile");
    await out(agent, id, "echo new > /a/deep/target/made");
    assert.equal(readFileSync(join(directory, "made"), "utf8"), "new\n");
    for (const script of ["echo x > /etc/motd", "touch /ro/x"]) {
      const { exitCode, stderr } = await exec(agent, id, script);
      assert.notEqual(exitCode, 0);
      assert.match(stderr, /Read-only/);
    }
  });

  test("an image whose path is a link cannot lead a mount out of its root", async () => {
    const victim = join(agent.paths.base, "victim");
    mkdirSync(victim);
    const layers = [[{ path: "data", type: "symlink" as const, link: `../../../../..${victim}` }]];
    await importBusybox(agent, "berth.test/link:1", { layers });
    const source = join(agent.paths.base, "source");
    mkdirSync(source);
    await outputOf(
      "touch /data/inside/x",
      {},
      {
        image: { image: "berth.test/link:1" },
        mounts: [{ container_path: "/data/inside", host_path: source }],
      },
    );
    assert.ok(!existsSync(join(victim, "inside")));
    assert.ok(existsSync(join(source, "x")));
  });
});
