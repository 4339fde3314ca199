/** A container's spec and bundle; Debian's runc runs what Berth runs, and a probe inside sees the same. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { OciSpec } from "../../sandbox/spec/oci.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  busyboxName,
  createContainer,
  fails,
  importBusybox,
  long,
  type RunningPod,
  readLog,
  runPod,
  waitExited,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const hasRunc = spawnSync("runc", ["--version"]).status === 0;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

function berth(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [program, "inspect", "--socket", agent.socket, ...args], { encoding: "utf8" });
}

test("--spec prints the whole spec, with every rule of its seccomp profile", async () => {
  const id = await createContainer(agent, pod, {
    linux: { security_context: { seccomp: { profile_type: 0 } }, resources: { cpu_shares: long(77) } },
  });
  const { stdout, status } = berth("--spec", id.slice(0, 12));
  assert.equal(status, 0);
  const spec = JSON.parse(stdout) as OciSpec;
  assert.deepEqual(spec.process.args, ["sleep", "1000"]);
  assert.equal(spec.linux.resources.cpu?.shares, 77);
  assert.ok((spec.linux.seccomp?.syscalls?.flatMap(({ names }) => names).length ?? 0) > 300);
  const missing = berth("--spec", "none");
  assert.equal(missing.status, 4);
  assert.match(missing.stderr, /container "none" is not known/);
});

/** What a program can see of how it is run; nothing that differs between two runs of the same. */
const probe = [
  "exec 2>&1",
  "id",
  "pwd",
  "hostname",
  "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status",
  "env | grep -v ^HOSTNAME= | sort",
  "cat /proc/self/limits | grep -E 'open files|core'",
  // how masks are mounted, and how the directory of v1 hierarchies is laid out, is each runtime's own business
  "awk '{print $5, $6}' /proc/self/mountinfo | grep -vE '^/(sys/fs/cgroup|sys/firmware|proc/keys|proc/kcore)' | sort",
  "ls -l /dev | awk '{print $1, $3, $4, $5, $6, $NF}' | grep -v ^total | sort",
  "head -n 1 /vol/passwd; cat /data/file; touch /data/x /vol/x /ro 2>&1",
  "cat /proc/kcore | head -c 1 | wc -c; echo 1 > /proc/sys/kernel/domainname || echo refused",
  "ip -o -4 addr show eth0 | awk '{print $4}'",
].join("; ");

test("runc runs the bundle, and what is inside is the same", {
  skip: hasRunc ? false : "runc is not there",
}, async () => {
  const source = join(agent.paths.base, "data");
  mkdirSync(source);
  writeFileSync(join(source, "file"), "of the host\n");
  const id = await createContainer(agent, pod, {
    command: ["sh", "-c", probe],
    envs: [{ key: "A", value: Buffer.from("b") }],
    mounts: [
      { container_path: "/data", host_path: source, readonly: true },
      { container_path: "/vol", readonly: true, image: { image: busyboxName }, image_sub_path: "etc" },
    ],
    linux: {
      security_context: {
        run_as_user: { value: long(0) },
        readonly_rootfs: true,
        no_new_privs: true,
        capabilities: { drop_capabilities: ["NET_RAW"], add_capabilities: ["NET_ADMIN"] },
        seccomp: { profile_type: 0 },
        masked_paths: ["/proc/kcore", "/proc/keys", "/sys/firmware"],
        readonly_paths: ["/proc/sys", "/proc/bus"],
      },
      resources: { memory_limit_in_bytes: long(64 << 20), cpu_shares: long(512) },
    },
  });
  const bundle = join(agent.paths.base, "bundle");
  const made = berth("--bundle", bundle, id);
  assert.equal(made.status, 0, made.stderr);
  assert.match(made.stdout, /runc run -b/);
  const ran = spawnSync(
    "runc",
    ["--root", join(agent.paths.base, "runc"), "run", "-b", bundle, `x${id.slice(0, 12)}`],
    {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const unmounted = berth("--bundle", bundle, "--unmount");
  assert.equal(ran.stderr, "");
  await agent.client.call("StartContainer", { container_id: id });
  const { log_path } = await waitExited(agent, id);
  const ours = (await readLog(log_path ?? "")).map(({ text }) => text);
  assert.deepEqual(ran.stdout.trimEnd().split("\n"), ours);

  assert.equal(unmounted.status, 0, unmounted.stderr);
  assert.ok(!existsSync(bundle));
  assert.ok(!readFileSync("/proc/self/mountinfo", "utf8").includes(bundle));
});

test("a directory in use, one that is no bundle, and a container that is not there are refused and left alone", async () => {
  const id = await createContainer(agent, pod);
  const full = join(agent.paths.base, "full");
  mkdirSync(full);
  writeFileSync(join(full, "config.json"), "{}");
  const mount = (container_id: string, directory: string) =>
    agent.client.call("MountBundle", { container_id, directory });
  await fails(mount(id, full), "INVALID_ARGUMENT", /directory: .*full is not empty/);
  await fails(mount(id, "relative"), "INVALID_ARGUMENT", /directory: "relative" is not an absolute path/);
  await fails(mount("none", join(agent.paths.base, "new")), "NOT_FOUND", /container "none" is not known/);
  await fails(mount(id, "/"), "INVALID_ARGUMENT", /root directory/);
  const unmount = (directory: string) => agent.client.call("UnmountBundle", { directory });
  await fails(unmount(full), "INVALID_ARGUMENT", /none that berth has made/);
  await fails(unmount(join(agent.paths.base, "none")), "INVALID_ARGUMENT", /is no bundle/);
  mkdirSync(join(agent.paths.base, "fifo"));
  execFileSync("mkfifo", [join(agent.paths.base, "fifo", "config.json")]);
  await fails(unmount(join(agent.paths.base, "fifo")), "INVALID_ARGUMENT", /config\.json is no regular file/);
  assert.deepEqual(readdirSync(full), ["config.json"]);
});
