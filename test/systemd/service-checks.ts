/** Runs where systemd is PID 1 (test/integration/systemd-service.test.ts): deploy/berth.service and deploy/berth.socket. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Client, connect, socketPath } from "../../agent/cli/client.js";
import type { TestAgent } from "../support/agent.js";
import { hostPidOf, out, type RunningPod, removePod, runContainer, runPod } from "../support/workload.js";
import { run, startDriver, untilScopesAre } from "./support.js";

const deploy = fileURLToPath(new URL("../../../deploy", import.meta.url));
const service = "berth.service";

/** what prepares the paths before, and looks for leftovers after */
let prepared: TestAgent;
/** the one that systemd runs */
let agent: TestAgent;
let client: Client;
let units: string;
let pod: RunningPod;
let container: string;
let containerPid: number;

before(async () => {
  // with cgroup v1, systemd moves processes of cgroups that it does not know when a delegated service comes or goes
  prepared = await startDriver();
  const command = readFileSync(`/proc/${prepared.pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  await prepared.terminate();

  units = (await run("systemctl", ["show", "--property=UnitPath", "--value"])).stdout.split(/\s/)[0] ?? "";
  mkdirSync(units, { recursive: true });
  const unit = readFileSync(join(deploy, service), "utf8");
  assert.match(unit, /^ExecStart=\/usr\/bin\/berth serve$/m);
  writeFileSync(join(units, service), unit.replace("/usr/bin/berth serve", command.map(quote).join(" ")));
  const log = join(prepared.paths.base, "agent.log");
  dropIn(service, "test", [
    // of what Debian starts there is nothing here
    "[Unit]\nDefaultDependencies=no\n[Service]",
    `StandardOutput=append:${log}\nStandardError=append:${log}`,
  ]);
  const socket = readFileSync(join(deploy, "berth.socket"), "utf8");
  assert.match(socket, /^ListenStream=\/run\/berth\/berth.sock$/m);
  const path = socketPath(prepared.socket);
  writeFileSync(join(units, "berth.socket"), socket.replace("/run/berth/berth.sock", path));
  dropIn("berth.socket", "test", ["[Unit]\nDefaultDependencies=no"]);
  await run("systemctl", ["daemon-reload"]);

  client = connect(prepared.socket);
  agent = Object.create(prepared, { client: { value: client } }) as TestAgent;
});
after(async () => {
  client?.close();
  await run("systemctl", ["stop", "berth.socket", service]);
  await prepared.restart();
  await prepared.stop();
  await untilScopesAre([]);
});

test("it is started when its socket answers", async () => {
  await run("systemctl", ["start", service]);
  await client.call("Version", {});
  const shown = await properties("ActiveState", "StatusText", "NotifyAccess", "WatchdogUSec");
  assert.deepEqual(shown, {
    ActiveState: "active",
    NotifyAccess: "main",
    StatusText: "serving",
    WatchdogUSec: "1min",
  });
  pod = await runPod(agent);
  container = await runContainer(agent, pod);
  containerPid = await hostPidOf(agent, container);
});

test("it shares the mount namespace of the host, and gives its variables to nobody", async () => {
  const pid = await mainPid();
  assert.equal(readlinkSync(`/proc/${pid}/ns/mnt`), readlinkSync("/proc/1/ns/mnt"));
  const { info } = await client.call("PodSandboxStatus", { pod_sandbox_id: pod.id, verbose: true });
  const { pid: monitor } = JSON.parse(info["info"] ?? "{}") as { pid: number };
  assert.doesNotMatch(readFileSync(`/proc/${monitor}/environ`, "utf8"), /NOTIFY_SOCKET|LISTEN_|WATCHDOG/);
});

test("pods live through a restart, a stop, and a kill, after which it is started again", async () => {
  await run("systemctl", ["restart", service]);
  await assertPodLives();
  await run("systemctl", ["stop", service]);
  process.kill(containerPid, 0);
  await run("systemctl", ["start", service]);
  await assertPodLives();
  const killed = await mainPid();
  process.kill(killed, "SIGKILL");
  await untilShown("MainPID", (pid) => pid !== "0" && pid !== String(killed));
  await untilShown("ActiveState", (state) => state === "active");
  await assertPodLives();
});

test("systemctl reload: systemctl status tells that the configuration is refused, and that it is well again", async () => {
  const file = join(prepared.paths.base, "config.toml");
  writeFileSync(file, 'log-line-bytes = "many"\n');
  await run("systemctl", ["reload", service]);
  await untilShown("StatusText", (text) => /the configuration is refused.*log-line-bytes/.test(text));
  writeFileSync(file, "");
  await run("systemctl", ["reload", service]);
  await untilShown("StatusText", (text) => text === "serving");
  assert.equal((await properties("ActiveState"))["ActiveState"], "active");
});

test("an agent whose event loop stands still is replaced, and its pods live", async () => {
  // systemd's SIGABRT would leave a core dump on this machine
  dropIn(service, "watchdog", ["[Service]\nWatchdogSec=5\nLimitCORE=0"]);
  await run("systemctl", ["daemon-reload"]);
  await run("systemctl", ["restart", service]);
  const stopped = await mainPid();
  process.kill(stopped, "SIGSTOP");
  await untilShown("MainPID", (pid) => pid !== "0" && pid !== String(stopped));
  await untilShown("ActiveState", (state) => state === "active");
  assert.match(prepared.logs(), /"msg":"ready"/);
  await assertPodLives();
  dropIn(service, "watchdog", ["[Service]\nWatchdogSec=60"]);
  await run("systemctl", ["daemon-reload"]);
});

test("with berth.socket the first client starts it, and none is refused while it restarts", async () => {
  await run("systemctl", ["stop", service]);
  await run("systemctl", ["start", "berth.socket"]);
  await assertPodLives();
  await untilShown("ActiveState", (state) => state === "active");
  const through = new AbortController();
  const restarts = (async () => {
    for (let count = 0; count < 3; count++) await run("systemctl", ["restart", service]);
  })().finally(() => through.abort());
  let connections = 0;
  for (; !through.signal.aborted; connections++) {
    await connectOnce(socketPath(prepared.socket));
    // they stay in the backlog until the agent is there again
    await sleep(100);
  }
  await restarts;
  assert.ok(connections > 1, `only ${connections} connections were tried`);
  await assertPodLives();
});

test("a socket that is not where the settings say is refused with both paths", async () => {
  await run("systemctl", ["stop", "berth.socket", service]);
  const elsewhere = join(prepared.paths.run, "else.sock");
  dropIn("berth.socket", "elsewhere", [`[Socket]\nListenStream=\nListenStream=${elsewhere}`]);
  dropIn(service, "once", ["[Service]\nRestart=no"]);
  await run("systemctl", ["daemon-reload"]);
  await run("systemctl", ["start", "berth.socket"]);
  await assert.rejects(run("systemctl", ["start", service]));
  const sentence = `systemd listens on ${elsewhere}, and "listen" is ${socketPath(prepared.socket)}`;
  assert.ok(prepared.logs().includes(sentence), prepared.logs().slice(-2_000));
  await run("systemctl", ["stop", "berth.socket"]);
  await run("systemctl", ["reset-failed", service]);
  dropIn("berth.socket", "elsewhere", []);
  await run("systemctl", ["daemon-reload"]);
  await run("systemctl", ["start", service]);
  await assertPodLives();
  await removePod(agent, pod);
});

async function assertPodLives(): Promise<void> {
  assert.equal(await hostPidOf(agent, container), containerPid);
  assert.equal(await out(agent, container, "echo alive"), "alive");
}

function connectOnce(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(path, () => {
      connection.destroy();
      resolve();
    });
    connection.once("error", reject);
  });
}

async function mainPid(): Promise<number> {
  return Number((await properties("MainPID"))["MainPID"]);
}

async function properties(...names: string[]): Promise<Record<string, string>> {
  const { stdout } = await run("systemctl", ["show", service, `--property=${names.join(",")}`]);
  const lines = stdout.trimEnd().split("\n").sort();
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

async function untilShown(name: string, fits: (value: string) => boolean): Promise<void> {
  for (const until = Date.now() + 60_000; ; await sleep(50)) {
    const value = (await properties(name))[name] ?? "";
    if (fits(value)) return;
    assert.ok(Date.now() < until, `${name} is ${value}:\n${prepared.logs().slice(-3_000)}`);
  }
}

function dropIn(unit: string, name: string, lines: readonly string[]): void {
  const directory = join(units, `${unit}.d`);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${name}.conf`), `${lines.join("\n")}\n`);
}

/** A word of ExecStart. */
function quote(word: string): string {
  return JSON.stringify(word.replaceAll("%", "%%").replaceAll("$", "$$$$"));
}
