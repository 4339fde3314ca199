/**
 * The Debian package beside a systemd that has booted the machine, with a pod that lives through all of it: installed, upgraded,
 * removed, installed again, purged. In a virtual machine alone (test/vm): it changes what is installed.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { type Client, connect } from "../../agent/cli/client.js";
import type { TestAgent } from "../support/agent.js";
import {
  hostPidOf,
  importBusybox,
  out,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";

const packages = ["1.0", "2.0"].map((version) => `/packages/berth_${version}.deb`) as [string, string];
const isBooted = process.env["BERTH_SYSTEMD"] === "booted" && packages.every((path) => existsSync(path));
const run = promisify(execFile);

/** dpkg's or systemctl's words, also when it fails. */
async function told(program: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
  return run(program, args, { env, maxBuffer: 1 << 24 }).then(
    ({ stdout, stderr }) => stdout + stderr,
    (error: { stdout: string; stderr: string }) => `failed: ${error.stdout}${error.stderr}`,
  );
}
const dpkg = (...args: string[]) => told("dpkg", "--force-unsafe-io", "--force-confold", ...args);
const install = async (path: string) => {
  const words = await dpkg("-i", path);
  assert.doesNotMatch(words, /^failed|has not started/m);
};
const shown = async (property: string) =>
  (await told("systemctl", "show", "berth.service", `--property=${property}`, "--value")).trim();

describe("the package under systemd", { skip: isBooted ? false : "no systemd has booted this machine for it" }, () => {
  let base: string;
  let client: Client;
  let agent: TestAgent;
  let pod: RunningPod;
  let container: string;
  let containerPid: number;

  before(async () => {
    // what Debian's units would start is not this machine's
    for (const name of ["sysinit", "basic", "shutdown", "multi-user", "sockets"]) {
      writeFileSync(`/etc/systemd/system/${name}.target`, "[Unit]\nDefaultDependencies=no\n");
    }
    mkdirSync("/etc/berth/config.d", { recursive: true });
    writeFileSync("/etc/berth/config.d/driver.toml", 'cgroup-driver = "systemd"\n');
    base = mkdtempSync("/tmp/b-");
    mkdirSync(join(base, "logs"));
  });
  after(() => {
    client?.close();
    rmSync(base, { recursive: true });
  });

  const podLives = async () => {
    assert.equal(await hostPidOf(agent, container), containerPid);
    assert.equal(await out(agent, container, "echo alive"), "alive");
  };

  test("installed, the service runs, and is started at each boot", async () => {
    await install(packages[0]);
    assert.equal(await shown("ActiveState"), "active");
    assert.equal(await shown("UnitFileState"), "enabled");
    client = connect("unix:///run/berth/berth.sock");
    agent = { client, paths: { base, logs: join(base, "logs") } } as TestAgent;
    await client.call("Version", {});
    await importBusybox(agent);
    pod = await runPod(agent);
    container = await runContainer(agent, pod);
    containerPid = await hostPidOf(agent, container);
  });

  test("an upgrade starts the new agent, and the pod does not notice", async () => {
    const before = await shown("MainPID");
    await install(packages[1]);
    assert.equal(await shown("ActiveState"), "active");
    assert.notEqual(await shown("MainPID"), before);
    await podLives();
  });

  test("an upgrade starts no agent that was stopped, and the next start finds the pod", async () => {
    await told("systemctl", "stop", "berth.service");
    await install(packages[0]);
    assert.equal(await shown("ActiveState"), "inactive");
    process.kill(containerPid, 0);
    await told("systemctl", "start", "berth.service");
    await podLives();
  });

  test("removed, the service is gone and the pod runs on; it cannot be purged, and an agent that comes again finds it", async () => {
    const words = await dpkg("-r", "berth");
    assert.match(words, /1 pods are left on this node/);
    assert.doesNotMatch(words, /^failed/);
    assert.ok(!existsSync("/usr/bin/berth"));
    assert.notEqual(await shown("ActiveState"), "active");
    process.kill(containerPid, 0);
    assert.match(await dpkg("--purge", "berth"), /^failed[\s\S]*pods run here still/);
    process.kill(containerPid, 0);
    await install(packages[1]);
    assert.equal(await shown("ActiveState"), "active");
    await podLives();
  });

  test("purged without pods, it leaves nothing", async () => {
    await removePod(agent, pod);
    assert.throws(() => process.kill(containerPid, 0));
    const words = await dpkg("--purge", "berth");
    assert.doesNotMatch(words, /^failed/);
    assert.equal(await shown("LoadState"), "not-found");
    for (const path of ["/run/berth", "/var/lib/berth", "/sys/class/net/berth0", "/usr/lib/berth"]) {
      assert.ok(!existsSync(path), path);
    }
    assert.deepEqual(readdirSync("/etc/berth/config.d"), ["driver.toml"]);
    const left = readdirSync("/etc/systemd/system", { recursive: true }).map(String);
    assert.deepEqual(
      left.filter((name) => /^berth|\/berth/.test(name) && name !== "berth-vm.target"),
      [],
    );
    assert.doesNotMatch(await told("nft", "list", "tables"), /berth/);
  });
});
