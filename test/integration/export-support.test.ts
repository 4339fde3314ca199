/** `berth export-support`: that what helps is in it, and that no planted secret is. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import { createContainer, exec, importBusybox, runContainer, runPod, sh } from "../support/workload.js";

const planted = "Hunter2Planted";

describe("berth export-support", () => {
  let agent: TestAgent;
  let directory = "";
  const file = (name: string) => readFileSync(join(directory, name), "utf8");

  before(async () => {
    agent = await startAgent({ env: { DB_PASSWORD: planted, HTTPS_PROXY: `http://u:${planted}@127.0.0.1:9` } });
    const { base, run, root, registries, logs } = agent.paths;
    const address = new URL(agent.metricsUrl).host;
    const settings = [
      `run = "${run}"`,
      `root = "${root}"`,
      `registries = "${registries}"`,
      `metrics = "${address}"`,
      `traces = "http://tracer:${planted}@127.0.0.1:4318/v1/traces"`,
    ];
    writeFileSync(join(base, "support.toml"), `# the password is password = ${planted}\n${settings.join("\n")}\n`);
    mkdirSync(join(registries, "127.0.0.1:9"));
    const header = `[host."https://127.0.0.1:9".header]\nauthorization = "Basic ${planted}"\n`;
    writeFileSync(join(registries, "127.0.0.1:9", "hosts.toml"), `server = "https://127.0.0.1:9"\n${header}`);
    await importBusybox(agent);
    const pod = await runPod(agent, {
      annotations: { "kubectl.kubernetes.io/last-applied-configuration": `{"password":"${planted}"}` },
      labels: { token: planted },
    });
    const container = await runContainer(agent, pod, {
      ...sh("sleep 1000"),
      envs: [{ key: "DB_PASSWORD", value: Buffer.from(planted) }],
    });
    await exec(agent, container, ["sh", "-c", `echo ${planted}; exit 3`]);
    const auth = { username: "u", password: planted };
    const image = { image: "127.0.0.1:9/team/app:1" };
    await assert.rejects(agent.client.call("PullImage", { image, auth }));
    await assert.rejects(
      createContainer(agent, pod, { command: ["true"], envs: [{ key: "", value: Buffer.from(planted) }] }),
    );
    const fatal = {
      header: { event: "Allocation failed" },
      environmentVariables: { DB_PASSWORD: planted, A: planted },
    };
    writeFileSync(join(root, "crashes", "fatal-1-2.json"), JSON.stringify(fatal));
    writeFileSync(join(logs, "agent.log"), `{"msg":"a line"}\nAuthorization: Bearer ${planted}\n`);

    const archive = join(base, "support.tar.gz");
    const args = ["--config", join(base, "support.toml"), "--log", join(logs, "agent.log"), "-o", archive];
    const result = await runCli(["export-support", ...args]);
    assert.deepEqual([result.code, result.stderr], [0, ""]);
    assert.match(result.stdout, /^\S+support\.tar\.gz\n/);
    assert.equal(statSync(archive).mode & 0o777, 0o600);
    directory = join(base, "unpacked");
    mkdirSync(directory);
    execFileSync("tar", ["-xzf", archive, "-C", directory, "--strip-components=1"]);
  });
  after(() => agent.stop());

  it("has what helps", () => {
    const { value, origin } = JSON.parse(file("configuration.json")).root;
    assert.deepEqual([value, origin], [agent.paths.root, `${agent.paths.base}/support.toml:3`]);
    assert.ok(JSON.parse(file("doctor.json")).length > 0);
    assert.match(JSON.parse(file("versions.json")).host, /^Linux .*the agent answers$/);
    const { calls, events } = JSON.parse(file("agent/activity.json"));
    assert.ok(calls.some(({ method }: { method: string }) => method === "RunPodSandbox"));
    assert.ok(events.some(({ type }: { type: string }) => type === "pod-event"));
    const [pod] = JSON.parse(file("agent/pods.json"));
    assert.deepEqual([pod.state, "annotations" in pod, "labels" in pod], ["SANDBOX_READY", false, false]);
    assert.equal(JSON.parse(file("agent/containers.json"))[0].state, "CONTAINER_RUNNING");
    assert.deepEqual(JSON.parse(file("agent/leaks.json")), []);
    assert.match(file("agent/metrics.txt"), /^berth_build_info/m);
    assert.match(file("agent.log"), /a line/);
    assert.match(file("registries.txt"), /127\.0\.0\.1:9$/m);
    assert.match(file("kernel/proc_version"), /^Linux version/);
    assert.equal(JSON.parse(file("crashes/fatal-1-2.json")).header.event, "Allocation failed");
    assert.ok(!readdirSync(directory).includes("configuration.json.missing"));
  });

  it("has nothing of what was planted", () => {
    const hits = execFileSync("sh", ["-c", `grep -rl ${planted} "$0" || true`, directory], { encoding: "utf8" });
    assert.equal(hits, "");
  });

  it("where no agent answers it has the rest, and says so", async () => {
    const archive = join(agent.paths.base, "dead.tar.gz");
    const config = join(agent.paths.base, "dead.toml");
    writeFileSync(config, `run = "${agent.paths.base}/nowhere"\nroot = "${agent.paths.root}"\n`);
    assert.equal((await runCli(["export-support", "--config", config, "-o", archive])).code, 0);
    const names = execFileSync("tar", ["-tzf", archive], { encoding: "utf8" });
    assert.match(names, /agent\/status\.json\.missing$/m);
    assert.match(names, /kernel\/proc_version$/m);
    const again = await runCli(["export-support", "--config", config, "-o", archive]);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /EEXIST/);
  });
});
