/** `berth forward-logs`, to a receiver of OTLP/HTTP and to a real systemd-journald. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  containerStatus,
  importBusybox,
  type RunningPod,
  runContainer,
  runPod,
  sh,
  waitExited,
} from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const journald = "/lib/systemd/systemd-journald";

let agent: TestAgent;
let pod: RunningPod;
const children: ChildProcess[] = [];
const servers: Server[] = [];

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(async () => {
  for (const child of children) child.kill("SIGKILL");
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  await agent.stop();
});

async function until(what: () => string, holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 30_000; !holds(); await sleep(20)) {
    if (Date.now() > end) throw new Error(`did not come: ${what()}`);
  }
}

function forwardLogs(name: string, ...args: string[]) {
  const state = join(agent.paths.base, `${name}.json`);
  const child = spawn(process.execPath, [program, "forward-logs", "--state", state, ...args], {
    env: { ...process.env, BERTH_SOCKET: agent.socket },
    stdio: ["ignore", "inherit", "pipe"],
  });
  children.push(child);
  let stderr = "";
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    const [code] = (await once(child, "exit")) as [number | null];
    return code;
  };
  return { end, stderr: () => stderr };
}

interface Received {
  container: string;
  resource: Record<string, string>;
  stream: string;
  time: string;
  text: Buffer;
}

interface Value {
  stringValue?: string;
  intValue?: string;
  bytesValue?: string;
}
type Attributes = { key: string; value: Value }[];

function textsOf(attributes: Attributes): Record<string, string> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue ?? ""]));
}

/** @param answer the status for a request; null: none ever comes */
async function startReceiver(answer: (request: number) => number | null) {
  const received: Received[] = [];
  const types = new Set<string>();
  let requests = 0;
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      types.add(`${request.method} ${request.url} ${request.headers["content-type"]} ${request.headers["x-key"]}`);
      const status = answer(requests++);
      if (status === null) return;
      if (status === 200) received.push(...recordsOf(Buffer.concat(parts).toString()));
      response.writeHead(status).end("{}");
    });
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/logs`;
  return { url, received, types, requests: () => requests };
}

function recordsOf(json: string): Received[] {
  const { resourceLogs } = JSON.parse(json) as {
    resourceLogs: {
      resource: { attributes: Attributes };
      scopeLogs: { logRecords: { timeUnixNano: string; body: Value; attributes: Attributes }[] }[];
    }[];
  };
  return resourceLogs.flatMap(({ resource, scopeLogs }) => {
    const texts = textsOf(resource.attributes);
    return scopeLogs.flatMap(({ logRecords }) =>
      logRecords.map(({ timeUnixNano, body, attributes }) => ({
        container: texts["container.id"] ?? "",
        resource: texts,
        stream: textsOf(attributes)["log.iostream"] ?? "",
        time: timeUnixNano,
        text: Buffer.from(
          body.stringValue ?? body.bytesValue ?? "",
          body.stringValue === undefined ? "base64" : "utf8",
        ),
      })),
    );
  });
}

test("OTLP: every line with its time, stream and pod, over rotation and a receiver that is busy at first", async () => {
  const receiver = await startReceiver((request) => (request < 2 ? 503 : 200));
  const forwarder = forwardLogs("otlp", "--otlp", receiver.url, "--header", "X-Key=secret");
  const script =
    "printf 'b\\377\\n'; echo error >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; read go; i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); done";
  const id = await runContainer(agent, pod, { ...sh(script), stdin: true });
  const path = (await containerStatus(agent, id)).log_path ?? "";
  const own = () => receiver.received.filter(({ container }) => container === id);
  await until(forwarder.stderr, () => own().length >= 3);
  renameSync(path, `${path}.20260102-030405`);
  await agent.client.call("ReopenContainerLog", { container_id: id });
  execFileSync(process.execPath, [program, "attach", "-i", id], {
    env: { ...process.env, BERTH_SOCKET: agent.socket },
    input: "go\n",
  });
  await waitExited(agent, id, 30_000);
  await until(forwarder.stderr, () => own().some(({ text }) => text.toString() === "line-2999"));
  const lines = (stream: string) => own().filter((line) => line.stream === stream);
  assert.deepEqual(
    lines("stderr").map(({ text }) => text.toString()),
    ["error"],
  );
  const [binary, long, ...rest] = lines("stdout").map(({ text }) => text);
  assert.deepEqual([...(binary ?? [])], [0x62, 0xff]);
  assert.equal(long?.toString(), "x".repeat(40_000));
  assert.deepEqual(
    rest.map(String),
    Array.from({ length: 3000 }, (_, i) => `line-${i}`),
  );
  const [first] = own();
  assert.equal(first?.resource["k8s.pod.name"], pod.config.metadata?.name);
  assert.equal(first?.resource["k8s.namespace.name"], "test");
  const age = Date.now() - Number(BigInt(first?.time ?? 0) / 1_000_000n);
  assert.ok(age >= 0 && age < 120_000, `${age} ms`);
  assert.deepEqual([...receiver.types], ["POST /v1/logs application/json secret"]);
  assert.equal(await forwarder.end("SIGTERM"), 0);
  assert.match(forwarder.stderr(), /HTTP 503[\s\S]*takes lines again/);
});

test("OTLP: nothing is lost, nor told twice, when the forwarder is ended and started anew", async () => {
  const receiver = await startReceiver(() => 200);
  const args = ["--otlp", receiver.url, "--namespace", "test"];
  const id = await runContainer(agent, pod, sh("i=0; while true; do echo line-$i; i=$((i+1)); usleep 2000; done"));
  const own = () => receiver.received.filter(({ container }) => container === id);
  for (let round = 0; round < 2; round++) {
    const forwarder = forwardLogs("anew", ...args);
    const before = own().length;
    await until(forwarder.stderr, () => own().length > before + 50);
    assert.equal(await forwarder.end("SIGTERM"), 0);
  }
  await agent.client.call("StopContainer", { container_id: id });
  const last = forwardLogs("anew", ...args);
  const count = own().length;
  await until(last.stderr, () => own().length > count);
  await last.end("SIGTERM");
  assert.deepEqual(
    own().map(({ text }) => text.toString()),
    Array.from({ length: own().length }, (_, i) => `line-${i}`),
  );
});

test("a receiver that never answers holds no container up", async () => {
  const receiver = await startReceiver(() => null);
  const forwarder = forwardLogs("silent", "--otlp", receiver.url);
  const id = await runContainer(agent, pod, sh("head -c 50000000 /dev/zero | tr '\\0' '\\n'"));
  await until(forwarder.stderr, () => receiver.requests() > 0);
  assert.equal((await waitExited(agent, id, 30_000)).exit_code, 0);
  assert.equal(await forwarder.end("SIGTERM"), 0);
});

test("what makes no sense is refused by name", async () => {
  const refused: [string[], RegExp][] = [
    [[], /either --journald or --otlp/],
    [["--otlp", "collector:4317"], /--otlp collector:4317/],
    [["--otlp", "http://x/v1/logs", "--header", "nothing"], /--header nothing/],
  ];
  for (const [args, message] of refused) {
    const { stderr, end } = forwardLogs("refused", ...args);
    await until(stderr, () => message.test(stderr()));
    void end;
  }
});

/** Debian's journald with a /run of its own. Answers its socket. */
async function startJournald(directory: string): Promise<string> {
  mkdirSync(join(directory, "systemd/journal"), { recursive: true });
  mkdirSync(join(directory, "log/journal"), { recursive: true });
  const settings = join(directory, "journald.conf");
  writeFileSync(settings, "[Journal]\nStorage=volatile\nReadKMsg=no\nRateLimitIntervalSec=0\nForwardToSyslog=no\n");
  const script = [
    "set -e",
    `mount --bind ${settings} /etc/systemd/journald.conf`,
    `mount --bind ${directory} /run`,
    `exec ${journald}`,
  ].join("\n");
  const child = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", script], { stdio: "ignore" });
  children.push(child);
  const socket = join(directory, "systemd/journal/socket");
  await until(
    () => "journald's socket",
    () => existsSync(socket),
  );
  return socket;
}

test("journald: fields, priorities, lines that are no text, and a journal that is started anew", async (t) => {
  if (!existsSync(journald)) return t.skip(`${journald} is not installed`);
  const directory = join(agent.paths.base, "journal");
  const socket = join(directory, "systemd/journal/socket");
  const forwarder = forwardLogs("journald", "--journald", socket);
  // the journal is not there yet
  await until(forwarder.stderr, () => /waits in the logs|ENOENT/.test(forwarder.stderr()) || existsSync(socket));
  await startJournald(directory);
  const script =
    "echo out; echo err >&2; printf 'a\\nMESSAGE=b\\n'; i=0; while [ $i -lt 2000 ]; do echo line-$i; i=$((i+1)); done";
  const id = await runContainer(agent, pod, sh(script));
  await waitExited(agent, id, 30_000);
  const entries = () =>
    execFileSync("journalctl", ["-D", join(directory, "log/journal"), "-o", "json", `CONTAINER_ID_FULL=${id}`], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      maxBuffer: 100_000_000,
    })
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, string>);
  await until(
    () => `${forwarder.stderr()} ${entries().length}`,
    () => entries().length >= 2004,
  );
  const all = entries();
  const [out] = all.filter(({ MESSAGE }) => MESSAGE === "out");
  assert.equal(out?.["PRIORITY"], "6");
  assert.equal(out?.["K8S_POD_NAME"], pod.config.metadata?.name);
  assert.equal(out?.["SYSLOG_IDENTIFIER"], out?.["K8S_CONTAINER_NAME"]);
  assert.match(out?.["SYSLOG_TIMESTAMP"] ?? "", /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(
    all.filter(({ PRIORITY }) => PRIORITY === "3").map(({ MESSAGE }) => MESSAGE),
    ["err"],
  );
  const texts = all.filter(({ PRIORITY }) => PRIORITY === "6").map(({ MESSAGE }) => MESSAGE);
  assert.deepEqual(texts, ["out", "a", "MESSAGE=b", ...Array.from({ length: 2000 }, (_, i) => `line-${i}`)]);
  assert.equal(await forwarder.end("SIGTERM"), 0);
});
