/** The command line as such: mistakes, exit codes, colours, and how much is loaded for it. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { commandTree } from "../../agent/cli/commands.js";
import { allNodes, treeOf } from "../../agent/cli/completions/tree.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import { until } from "../support/until.js";
import {
  busyboxName,
  ContainerState,
  containerStatus,
  importBusybox,
  PodSandboxState,
  podStatus,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const page = fileURLToPath(new URL("../../../docs/cli.md", import.meta.url));

describe("berth", () => {
  const mistakes: [line: string, code: number, told: RegExp][] = [
    ["pod", 2, /unknown command 'pod'\n\(Did you mean pods\?\)/],
    ["image pul x", 2, /Did you mean pull\?\)\n\(berth image --help tells more\)/],
    ["pull x", 2, /^berth: "pull" is no command; "berth image pull" may be meant\n$/],
    ["rmi x", 2, /"berth image rm" may be meant/],
    ["pods --jsn", 2, /unknown option '--jsn'\n\(Did you mean --json\?\)\n\(berth pods --help tells more\)/],
    ["explain", 2, /missing required argument 'CONTAINER'/],
    ["pods x", 2, /too many arguments for 'pods'/],
    ["image", 2, /Usage: berth image/],
    ["logs x --tail y", 2, /^berth: --tail y is no number of lines\n$/],
    ["pods --socket nowhere", 2, /nowhere is not unix:\/\/\/PATH/],
    ["pods --socket unix:///nowhere/s", 3, /^berth: no agent answers on \/nowhere\/s; is "berth serve" running\?\n$/],
    ["exec --socket unix:///nowhere/s x true", 125, /no agent answers/],
    ["config check /nowhere.toml", 1, /nowhere\.toml/],
    ["help pod", 2, /^berth: "pod" is no command; "berth pods" may be meant\n$/],
    [
      "--socket /x pods",
      2,
      /^berth: "--socket" is no option of berth itself: a command's options come after its name\n$/,
    ],
    ["pause x", 2, /^berth: "pause" is no command: pods and containers are their kubelet's; by hand, "berth run" /],
    ["rmp x", 2, /^berth: "rmp" is no command; "berth rm" may be meant\n$/],
    ["stop x --time soon", 2, /^berth: --time soon is no whole number of seconds\n$/],
    ["rm", 2, /^berth: an id is missing, of a pod or a container; or --all\n$/],
    ["rm --all x", 2, /^berth: --all are all pods: no id is taken beside it\n$/],
    ["exec x -it sh", 2, /^berth: options come before the container: berth exec -it CONTAINER CMD\.\.\.\n$/],
    ["--versoin", 2, /^berth: "--versoin" is no option; "berth --version" may be meant\n$/],
    ["-v", 2, /^berth: "-v" is no option; "berth --version" may be meant\n$/],
    ["stats --interval 0", 2, /'0' is invalid\. A number from 0\.1 to 3600 is wanted/],
    ["events --type ooms", 2, /'ooms' is invalid\. The types are .*\boom\b/],
    ["debug cpu --seconds x", 2, /'x' is invalid\. A whole number from 1 to 300/],
  ];
  for (const [line, code, told] of mistakes) {
    it(`${line}: ends with ${code}, and a sentence`, async () => {
      const result = await runCli(line.split(" "));
      assert.equal(result.code, code);
      assert.equal(result.stdout, "");
      assert.match(result.stderr, told);
    });
  }

  it("help and versions are no mistakes", async () => {
    for (const line of [
      [],
      ["--help"],
      ["help", "pods"],
      ["--version"],
      ["image", "--help"],
      ["help", "image", "pull"],
    ]) {
      const { code, stdout } = await runCli(line);
      assert.equal(code, 0, line.join(" "));
      assert.ok(stdout !== "");
    }
  });

  it("says nothing when who reads it has gone, as head does", async () => {
    const child = spawn(process.execPath, [program, "config", "show"], { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    const [stderr, [code]] = await Promise.all([textOf(child.stderr), once(child, "exit")]);
    assert.deepEqual([code, stderr], [141, ""]);
  });

  it("says what is wrong with its output, as when the disk is full", () => {
    const full = openSync("/dev/full", "w");
    const { status, stderr } = spawnSync(process.execPath, [program, "config", "show"], {
      stdio: ["ignore", full, "pipe"],
      encoding: "utf8",
    });
    closeSync(full);
    assert.deepEqual([status, stderr], [1, "berth: standard output: ENOSPC: no space left on device, write\n"]);
  });

  it("loads little: no library of the agent's, and few modules", () => {
    for (const [line, most] of [
      [["pods"], 110],
      [["config", "show"], 60],
      [["serve", "--help"], 20],
    ] as const) {
      const modules = modulesLoadedBy(line);
      const heavy = /node_modules\/(?:pino|undici|prom-client|@kubernetes|yaml)\//;
      assert.deepEqual(
        modules.filter((url) => heavy.test(url)),
        [],
      );
      assert.ok(modules.length <= most, `${line.join(" ")}: ${modules.length} modules`);
      assert.ok(modules.length > 5, "they are counted");
    }
  });

  it("docs/cli.md has each command, and the JSON of those that have one", async () => {
    const text = readFileSync(page, "utf8");
    const nodes = allNodes(treeOf(await commandTree(null))).filter(
      ({ path, children }) => path !== "" && children.length === 0,
    );
    const missing = nodes.filter(({ path }) => !text.includes(`\`berth ${path}`)).map(({ path }) => path);
    assert.deepEqual(missing, []);
    const [, json = ""] = text.split("## --json");
    const undescribed = nodes
      .filter(({ path, options }) => options.some(({ long }) => long === "--json") && !json.includes(`\`${path}\``))
      .map(({ path }) => path);
    assert.deepEqual(undescribed, []);
  });
});

/** URLs of the modules that are not Node's own. */
function modulesLoadedBy(line: readonly string[]): string[] {
  const directory = mkdtempSync(join(tmpdir(), "berth-modules-"));
  try {
    const env = { ...process.env, NODE_V8_COVERAGE: directory, BERTH_SOCKET: "unix:///nowhere/s" };
    try {
      execFileSync(process.execPath, [program, ...line], { env, stdio: "ignore" });
    } catch {
      // no agent answers
    }
    return readdirSync(directory)
      .flatMap((name) => JSON.parse(readFileSync(join(directory, name), "utf8")).result as { url: string }[])
      .map(({ url }) => url)
      .filter((url) => url.startsWith("file:"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const esc = "\u001b";

describe("berth, with an agent", () => {
  let agent: TestAgent;
  let container = "";
  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    container = await runContainer(agent, await runPod(agent), sh("sleep 1000"));
  });
  after(() => agent.stop());
  const berth = (...args: string[]) => runCli(args, { BERTH_SOCKET: agent.socket });

  it("scripts can tell failures from one another", async () => {
    const codes = async (...lines: string[][]) => Promise.all(lines.map(async (line) => (await berth(...line)).code));
    assert.deepEqual(await codes(["pods"], ["leaks"], ["explain", container]), [0, 0, 0]);
    assert.deepEqual(await codes(["explain", "nosuch"], ["logs", "nosuch"], ["image", "rm", "nosuch:1"]), [4, 4, 4]);
    assert.deepEqual(
      await codes(["stats", "nosuch"], ["namespaces", "nosuch"], ["image", "inspect", "nosuch"]),
      [4, 4, 4],
    );
    assert.deepEqual(await codes(["debug", "cpu", "--seconds", "1", "-o", "/nowhere/x"]), [1]);
  });

  it("tells who types a name, or a pod's id for a container's, which id is meant", async () => {
    const [one] = (await agent.client.call("ListContainers", {})).containers;
    const podId = one?.pod_sandbox_id?.slice(0, 12) ?? "";
    const name = one?.metadata?.name ?? "";
    const id = container.slice(0, 12);
    for (const [line, told] of [
      [["explain", name], `container "${name}" is not known; it is the name of container ${id}: give the id`],
      [
        ["cp", `${name}:/etc/hosts`, "-"],
        `container "${name}" is not known; it is the name of container ${id}: give the id`,
      ],
      [["logs", podId], `container "${podId}" is not known; it is a pod, with the containers ${name} ${id}`],
      [["network", "inspect", id], `pod sandbox "${id}" is not known; it is a container, of pod ${podId}`],
      [["cp", `${id}:/nosuch`, "/tmp"], `${id}:/nosuch is not there`],
    ] as const) {
      const { stderr, stdout } = await berth(...line);
      assert.deepEqual([stdout, stderr], ["", `berth: ${told}\n`]);
    }
  });

  it("tells who may not that the socket is root's", { skip: !existsSync("/usr/bin/setpriv") }, () => {
    // may read the program, be it in root's home, and not write to the socket
    const reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
    const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", ...reading, process.execPath, program];
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    const { status, stderr } = spawnSync("/usr/bin/setpriv", [...nobody, "pods"], { env, encoding: "utf8" });
    assert.deepEqual(
      [status, stderr],
      [1, `berth: ${agent.socket.slice(7)} is for root and its group alone (EACCES)\n`],
    );
    const doctor = spawnSync("/usr/bin/setpriv", [...nobody, "doctor"], { env, encoding: "utf8" });
    assert.match(doctor.stderr, /^berth: only root sees what the agent would see/);
  });

  it("run: takes its pod away when its terminal is closed", async () => {
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    const child = spawn(process.execPath, [program, "run", busyboxName, "sh", "-c", "echo up; exec sleep 1000"], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 2);
    child.stdout.destroy();
    child.kill("SIGHUP");
    await once(child, "exit");
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
  });

  it("run: an agent that is killed and started again changes nothing", async () => {
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    const script = "echo up; while ! [ -e /end ]; do sleep 0.1; done; exit 9";
    const child = spawn(process.execPath, [program, "run", busyboxName, "sh", "-c", script], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const exit = once(child, "exit");
    await once(child.stdout, "data");
    await agent.kill9();
    await once(child.stderr, "data");
    await agent.restart();
    const { containers } = await agent.client.call("ListContainers", {});
    const [run] = containers.filter(({ id }) => id !== container);
    await agent.client.call("ExecSync", { container_id: run?.id ?? "", cmd: ["touch", "/end"] });
    assert.deepEqual(await exit, [9, null]);
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
  });

  it("run: takes its pod away when npx was ended, whose shell passes no signal on", async () => {
    const shell = `'${process.execPath}' '${program}' run ${busyboxName} sh -c 'echo up; exec sleep 1000'; :`;
    const env = { ...process.env, BERTH_SOCKET: agent.socket, npm_command: "exec" };
    const child = spawn("/bin/sh", ["-c", shell], { env, stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    child.kill("SIGKILL");
    await until(async () => (await agent.client.call("ListPodSandbox", {})).items.length === 1);
  });

  it("stop and rm: pods and containers, by the beginnings of their ids", async () => {
    const pod = await runPod(agent);
    const trap = sh("trap 'exit 3' TERM; while :; do sleep 0.05; done");
    const [first, second] = [await runContainer(agent, pod, trap), await runContainer(agent, pod, trap)];
    const states = async (...ids: string[]) =>
      Promise.all(ids.map(async (id) => (await containerStatus(agent, id)).state));
    const { CONTAINER_RUNNING, CONTAINER_EXITED } = ContainerState;

    // a word that is wrong stops nothing
    assert.equal((await berth("stop", first.slice(0, 12), "nosuch")).code, 4);
    const refused = await berth("rm", second.slice(0, 12));
    assert.equal(refused.code, 5);
    assert.match(refused.stderr, /^berth: container \w{12} \(\S+\) is running: "berth stop" gives its programs time/);
    assert.equal((await berth("rm", pod.id)).code, 5);
    assert.deepEqual(await states(first, second), [CONTAINER_RUNNING, CONTAINER_RUNNING]);

    assert.deepEqual(await berth("stop", first.slice(0, 12)), { code: 0, stdout: `${first}\n`, stderr: "" });
    assert.equal((await containerStatus(agent, first)).exit_code, 3);
    assert.deepEqual(await states(first, second), [CONTAINER_EXITED, CONTAINER_RUNNING]);
    assert.deepEqual(JSON.parse((await berth("rm", "--json", first)).stdout), { removed: [first] });

    // of a pod the containers have their time, too
    assert.deepEqual(JSON.parse((await berth("stop", "--json", pod.id.slice(0, 12))).stdout), { stopped: [pod.id] });
    assert.equal((await containerStatus(agent, second)).exit_code, 3);
    assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);
    assert.deepEqual(await berth("rm", pod.id.slice(0, 12)), { code: 0, stdout: `${pod.id}\n`, stderr: "" });
    assert.equal((await berth("stop", pod.id)).code, 4);

    const other = await runPod(agent);
    const killed = await runContainer(agent, other, sh("trap '' TERM; while :; do sleep 0.05; done"));
    assert.equal((await berth("stop", "--time", "0", killed)).code, 0);
    assert.equal((await containerStatus(agent, killed)).exit_code, 137);
    // one pod that is running keeps all
    assert.equal((await berth("rm", "--all")).code, 5);
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 2);
    assert.equal((await berth("rm", "--force", other.id)).code, 0);
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
  });

  it("rm --all --force: a node without pods", async () => {
    const emptied = await startAgent();
    try {
      await importBusybox(emptied);
      for (let pods = 0; pods < 3; pods++) await runContainer(emptied, await runPod(emptied), sh("sleep 1000"));
      const { code, stdout } = await runCli(["rm", "--all", "--force"], { BERTH_SOCKET: emptied.socket });
      assert.deepEqual([code, stdout.split("\n").length], [0, 4]);
      assert.deepEqual((await emptied.client.call("ListPodSandbox", {})).items, []);
    } finally {
      await emptied.stop();
    }
  });

  it("exec ends with the program's code, and with 125 when there was none", async () => {
    assert.equal((await berth("exec", container, "sh", "-c", "exit 7")).code, 7);
    assert.equal((await berth("exec", container, "--", "sh", "-c", "exit 6")).code, 6);
    const { code, stderr } = await berth("exec", "nosuch", "true");
    assert.equal(code, 125);
    assert.match(stderr, /^berth: container "nosuch" is not known\n$/);
  });

  it("run: a program in the foreground, with its output, its code and a seccomp filter; nothing of it stays", async () => {
    const script = "echo $A; echo oops >&2; grep Seccomp: /proc/self/status; exit 7";
    const ran = await berth("run", "-e", "A=b c", busyboxName, "sh", "-c", script);
    assert.deepEqual(ran, { code: 7, stdout: "b c\nSeccomp:\t2\n", stderr: "oops\n" });
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
    const mistaken = await berth("run", "-e", "A", busyboxName);
    assert.equal(mistaken.code, 2);
    assert.match(mistaken.stderr, /^berth: --env A is not NAME=value\n/);
    const more = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"];
    assert.equal((await berth("run", "--memory", "100Mi", busyboxName, ...more)).code, 137);
    const quota = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu*/cpu.cfs_quota_us 2>/dev/null | head -n1; exit 0";
    assert.match((await berth("run", "--cpus", "0.5", busyboxName, "sh", "-c", quota)).stdout, /^50000\b/);
    for (const [option, value, told] of [
      ["--memory", "much", /^berth: --memory much is no size/],
      ["--cpus", "0", /^berth: --cpus 0 is no number of at least 0\.01/],
      ["--cpus", "x", /^berth: --cpus x is no number/],
    ] as const) {
      const { code, stderr } = await berth("run", option, value, busyboxName);
      assert.equal(code, 2);
      assert.match(stderr, told);
    }
    const absent = await berth("run", busyboxName, "nosuch");
    assert.equal(absent.code, 125);
    assert.match(absent.stderr, /nosuch/);
    assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
  });

  it("colours tables on a terminal, and not where NO_COLOR is set", { skip: !existsSync("/usr/bin/script") }, () => {
    const onTerminal = (env: Record<string, string>) =>
      execFileSync("/usr/bin/script", ["-qec", `'${process.execPath}' '${program}' ps`, "/dev/null"], {
        encoding: "utf8",
        env: { PATH: "/usr/bin:/bin", TERM: "xterm", BERTH_SOCKET: agent.socket, ...env },
        stdio: ["ignore", "pipe", "inherit"],
      });
    const coloured = onTerminal({});
    assert.ok(coloured.includes(`${esc}[1mCONTAINER ID`) && coloured.includes(`${esc}[32mrunning`), coloured);
    for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) assert.ok(!onTerminal(env).includes(esc));
    assert.ok(onTerminal({ NO_COLOR: "" }).includes(esc));
  });

  it("and not into a pipe", async () => {
    assert.ok(!(await berth("ps")).stdout.includes(esc));
  });
});
