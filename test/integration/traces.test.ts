/** Spans of calls and of their steps, as a collector gets them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { importBusybox, podConfig, removePod } from "../support/workload.js";

interface ReceivedSpan {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: { stringValue: string } }[];
  status: { code?: number; message?: string };
}

const { RunPodSandboxRequest, RunPodSandboxResponse } = runtime.v1;
const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
const caller = "00f067aa0ba902b7";

let collector: Server;
let status = 200;
const received: ReceivedSpan[] = [];
const services = new Set<string>();
let agent: TestAgent;

before(async () => {
  collector = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      if (status === 200) {
        const { resourceSpans } = JSON.parse(body) as {
          resourceSpans: {
            resource: { attributes: { key: string; value: { stringValue: string } }[] };
            scopeSpans: { spans: ReceivedSpan[] }[];
          }[];
        };
        for (const { resource, scopeSpans } of resourceSpans) {
          for (const { key, value } of resource.attributes) if (key === "service.name") services.add(value.stringValue);
          received.push(...scopeSpans.flatMap(({ spans }) => spans));
        }
      }
      response.writeHead(status).end("{}");
    });
  }).listen(0, "127.0.0.1");
  await once(collector, "listening");
  const { port } = collector.address() as AddressInfo;
  agent = await startAgent({ flags: { traces: `http://127.0.0.1:${port}/v1/traces` } });
  await importBusybox(agent);
});
after(async () => {
  await agent.stop();
  collector.close();
});

/** As the kubelet calls when it traces. */
async function runPodTraced(flags: string, config: runtime.v1.IPodSandboxConfig): Promise<string> {
  const client = new grpc.Client(agent.socket, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set("traceparent", `00-${trace}-${caller}-${flags}`);
  try {
    const answer = await new Promise<runtime.v1.RunPodSandboxResponse>((resolve, reject) => {
      client.makeUnaryRequest(
        "/runtime.v1.RuntimeService/RunPodSandbox",
        (message: runtime.v1.IRunPodSandboxRequest) => Buffer.from(RunPodSandboxRequest.encode(message).finish()),
        (bytes: Buffer) => RunPodSandboxResponse.decode(bytes),
        { config },
        metadata,
        (error, value) => (error === null && value !== undefined ? resolve(value) : reject(error ?? new Error("none"))),
      );
    });
    return answer.pod_sandbox_id;
  } finally {
    client.close();
  }
}

async function untilReceived(found: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan> {
  for (const until = Date.now() + 60_000; ; await sleep(50)) {
    const span = received.find(found);
    if (span !== undefined) return span;
    assert.ok(Date.now() < until, `no such span among ${received.map(({ name }) => name).join(", ")}`);
  }
}

test("a call is a span of its caller's trace, with its steps in it", async () => {
  const config = podConfig(agent);
  const id = await runPodTraced("01", config);
  const call = await untilReceived(({ name, traceId }) => name === "RunPodSandbox" && traceId === trace);
  assert.equal(call.parentSpanId, caller);
  assert.equal(call.kind, 2);
  assert.deepEqual(call.status, {});
  assert.deepEqual([...services], ["berth"]);
  const steps = received.filter(({ parentSpanId }) => parentSpanId === call.spanId);
  const names = steps.map(({ name }) => name);
  for (const name of ["start-pod: monitor", "attach-network: interfaces", "start-pod: ready"]) {
    assert.ok(names.includes(name), `${name} is not among ${names.join(", ")}`);
  }
  for (const step of steps) {
    assert.equal(step.traceId, trace);
    assert.ok(BigInt(step.startTimeUnixNano) >= BigInt(call.startTimeUnixNano), step.name);
    assert.ok(BigInt(step.endTimeUnixNano) <= BigInt(call.endTimeUnixNano), step.name);
  }
  await removePod(agent, { id, config });
});

test("a trace that nobody records has no spans; a call without one begins its own; an error is told", async () => {
  const config = podConfig(agent);
  const spansBefore = received.filter(({ traceId }) => traceId === trace).length;
  const id = await runPodTraced("00", config);
  await assert.rejects(agent.client.call("StartContainer", { container_id: "none" }));
  const failed = await untilReceived(({ name }) => name === "StartContainer");
  assert.equal(failed.status.code, 2);
  assert.match(failed.status.message ?? "", /none/);
  assert.equal(failed.parentSpanId, "");
  assert.match(failed.traceId, /^[0-9a-f]{32}$/);
  const [about, request] = failed.attributes;
  assert.deepEqual(about, { key: "container", value: { stringValue: "none" } });
  assert.ok(agent.logs().includes(`"request":"${request?.value.stringValue}"`), "by it the call is found in the log");
  assert.equal(received.filter(({ traceId }) => traceId === trace).length, spansBefore);
  await removePod(agent, { id, config });
});

test("a collector that fails costs spans and nothing else, and is told of once", async () => {
  status = 500;
  for (let i = 0; i < 3; i++) {
    await agent.client.call("Version", {});
    await sleep(1_200);
  }
  for (const until = Date.now() + 60_000; !/traces are dropped/.test(agent.logs()); await sleep(50)) {
    assert.ok(Date.now() < until, "the log says nothing");
  }
  assert.equal(agent.logs().match(/traces are dropped: .*HTTP 500/g)?.length, 1);
  status = 200;
  await agent.client.call("Version", {});
  await untilReceived(({ name, startTimeUnixNano }) => name === "Version" && BigInt(startTimeUnixNano) > 0n);
  for (const until = Date.now() + 60_000; !/takes traces again/.test(agent.logs()); await sleep(50)) {
    assert.ok(Date.now() < until, "the log does not say that it works again");
  }
});
