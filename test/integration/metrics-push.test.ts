/** `berth push-metrics`, to a real Prometheus and to a receiver of OTLP/HTTP. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  type PrometheusSample,
  startPrometheus,
  type TestPrometheus,
  whatPrometheusLacks,
} from "../support/prometheus.js";
import { importBusybox, long, removePod, runContainer, runPod, sh } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const limit = 64 << 20;

let agent: TestAgent;
const children: ChildProcess[] = [];

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
});

after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await agent.stop();
});

function pushMetrics(...args: string[]) {
  const child = spawn(process.execPath, [program, "push-metrics", "--every", "1", ...args], {
    stdio: ["ignore", "inherit", "pipe"],
  });
  children.push(child);
  let stderr = "";
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  return {
    stderr: () => stderr,
    async end(): Promise<number | null> {
      child.kill("SIGTERM");
      const [code] = child.exitCode === null ? await once(child, "exit") : [child.exitCode];
      return code;
    },
  };
}

async function until<T>(what: string, find: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (const end = Date.now() + 30_000; ; await sleep(100)) {
    const found = await find();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`did not come: ${what}`);
  }
}

describe("remote write", { skip: whatPrometheusLacks() ?? false }, () => {
  let prometheus: TestPrometheus;
  before(async () => {
    prometheus = await startPrometheus({});
  });
  after(() => prometheus?.stop());

  const answer = (query: string) =>
    until(query, async () => {
      const samples = await prometheus.query(query);
      return samples.length > 0 ? samples : undefined;
    });
  const noAnswer = (query: string) =>
    until(`none for ${query}`, async () => ((await prometheus.query(query)).length === 0 ? true : undefined));
  const only = ([sample]: PrometheusSample[]) => sample ?? { metric: {}, value: Number.NaN };

  test("a Prometheus has what /metrics says, until it ends", async () => {
    const pod = await runPod(agent);
    await runContainer(agent, pod, {
      ...sh("sleep 600"),
      linux: { resources: { memory_limit_in_bytes: long(limit) } },
    });
    const push = pushMetrics(
      "--from",
      agent.metricsUrl,
      "--remote-write",
      prometheus.writeUrl,
      "--label",
      "instance=node-1",
    );
    const { metric, value } = only(await answer("container_spec_memory_limit_bytes > 0"));
    assert.equal(value, limit);
    assert.equal(metric["job"], "berth");
    assert.equal(metric["instance"], "node-1");
    assert.match(metric["container"] ?? "", /^c-/);
    assert.equal(only(await answer("up")).value, 1);
    assert.ok(
      only(await answer('histogram_quantile(0.5, berth_call_duration_seconds_bucket{method="RunPodSandbox"})')).value >
        0,
    );
    assert.ok(only(await answer("rate(process_cpu_seconds_total[10s])")).value >= 0);
    // a series that has ended ends there at once, not five minutes later
    await removePod(agent, pod);
    await noAnswer("container_spec_memory_limit_bytes > 0");
    assert.equal(await push.end(), 0);
    assert.equal(push.stderr(), "");
  });

  test("an agent that does not answer is down; one that does again is up, and both are said once", async () => {
    const server = createServer((_, response) => response.end("# TYPE a counter\na 1\n")).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const from = `http://127.0.0.1:${port}/metrics`;
    const push = pushMetrics("--from", from, "--remote-write", prometheus.writeUrl, "--label", "instance=node-2");
    await answer('up{instance="node-2"} == 1');
    await close(server);
    await answer('up{instance="node-2"} == 0');
    await noAnswer('a{instance="node-2"}');
    const again = createServer((_, response) => response.end("a 2\n")).listen(port, "127.0.0.1");
    await answer('up{instance="node-2"} == 1');
    assert.equal(only(await answer('a{instance="node-2"}')).value, 2);
    assert.equal(await push.end(), 0);
    assert.equal(
      push
        .stderr()
        .split("\n")
        .filter((line) => line.includes(from)).length,
      2,
      push.stderr(),
    );
    await close(again);
  });
});

interface Received {
  headers: Record<string, string | string[] | undefined>;
  metrics: { name: string; sum?: Sum; gauge?: Sum; histogram?: { dataPoints: Histogram[] } }[];
}
interface Sum {
  isMonotonic?: boolean;
  dataPoints: { asDouble: number; timeUnixNano: string }[];
}
interface Histogram {
  count: string;
  bucketCounts: string[];
  explicitBounds: number[];
}

test("OTLP: what a receiver does not take at first waits, and comes in its order", async () => {
  const received: Received[] = [];
  let refusals = 2;
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    if (refusals-- > 0) return void response.writeHead(503, { "Retry-After": "1" }).end("not yet");
    const body = JSON.parse(gunzipSync(Buffer.concat(parts)).toString());
    received.push({ headers: request.headers, metrics: body.resourceMetrics[0].scopeMetrics[0].metrics });
    response.end("{}");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/metrics`;
  await agent.client.call("Version", {});
  const push = pushMetrics("--from", agent.metricsUrl, "--otlp", url, "--header", "Authorization=Bearer x");
  await until("four scrapes", () => (received.length >= 4 ? true : undefined));
  assert.equal(await push.end(), 0);
  assert.match(push.stderr(), /503 not yet\n.*takes metrics again/);
  const times = received.map(({ metrics }) => BigInt(named(metrics, "up").gauge?.dataPoints[0]?.timeUnixNano ?? 0));
  assert.deepEqual(
    times,
    [...times].sort((a, b) => (a < b ? -1 : 1)),
  );
  const [{ headers, metrics } = { headers: {}, metrics: [] }] = received;
  assert.equal(headers["authorization"], "Bearer x");
  const cpu = named(metrics, "process_cpu_seconds_total").sum;
  assert.equal(cpu?.isMonotonic, true);
  assert.ok((cpu?.dataPoints[0]?.asDouble ?? 0) > 0);
  for (const { count, bucketCounts, explicitBounds } of named(metrics, "berth_call_duration_seconds").histogram
    ?.dataPoints ?? []) {
    assert.equal(bucketCounts.length, explicitBounds.length + 1);
    assert.equal(
      bucketCounts.reduce((sum, each) => sum + Number(each), 0),
      Number(count),
    );
  }
  await close(server);
});

test("what is not usable is refused with a sentence", async () => {
  for (const [args, sentence] of [
    [[], /either --remote-write or --otlp is needed/],
    [["--otlp", "ftp://x/"], /--otlp ftp:\/\/x\/ is not http/],
    [["--otlp", "http://x/", "--label", "a-b=c"], /--label a-b=c is not NAME=VALUE/],
    [["--otlp", "http://x/", "--from", "here"], /--from here is neither/],
    [["--otlp", "http://x/", "--every", "0"], /from 1 to 3600/],
  ] as const) {
    const push = pushMetrics(...args);
    const said = await until(String(sentence), () => (sentence.test(push.stderr()) ? push.stderr() : undefined));
    assert.match(said, sentence);
    assert.notEqual(await push.end(), 0);
  }
});

function named(metrics: Received["metrics"], name: string): Received["metrics"][number] {
  const found = metrics.find((metric) => metric.name === name);
  assert.ok(found !== undefined, `no ${name}`);
  return found;
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
