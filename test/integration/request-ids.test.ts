/** One call followed by its id: through the agent's log, its pod's monitor and the unpacker. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { runCli } from "../support/cli.js";
import {
  containerConfig,
  createContainer,
  exec,
  importBusybox,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";

const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});
after(async () => {
  await removePod(agent, pod);
  await agent.stop();
});

interface Line {
  request?: string;
  area?: string;
  method?: string;
  operation?: string;
  error?: string;
  report?: string;
}

function agentsLines(): Line[] {
  const lines = agent.logs().trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as Line);
}

const monitorsLog = () => readFileSync(join(agent.paths.run, "pods", pod.id, "monitor.log"), "utf8");

/** As a kubelet that traces calls. */
async function startTraced(containerId: string): Promise<void> {
  const { StartContainerRequest, StartContainerResponse } = runtime.v1;
  const client = new grpc.Client(agent.socket, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set("traceparent", `00-${trace}-00f067aa0ba902b7-01`);
  try {
    await new Promise<void>((resolve, reject) => {
      client.makeUnaryRequest(
        "/runtime.v1.RuntimeService/StartContainer",
        (message: runtime.v1.IStartContainerRequest) => Buffer.from(StartContainerRequest.encode(message).finish()),
        (bytes: Buffer) => StartContainerResponse.decode(bytes),
        { container_id: containerId },
        metadata,
        (error) => (error === null ? resolve() : reject(error)),
      );
    });
  } finally {
    client.close();
  }
}

test("a start that fails in the monitor has its caller's trace id there and in the agent's lines", async () => {
  const container = await createContainer(agent, pod, { command: ["/not/there"] });
  await assert.rejects(startTraced(container), /not\/there/);
  const lines = agentsLines().filter(({ request }) => request === trace);
  assert.ok(
    lines.some(({ method, error }) => method === "StartContainer" && error?.includes("/not/there")),
    "the call's own line",
  );
  assert.ok(
    lines.some(({ area, operation }) => area === "steps" && operation === "start-container"),
    "the step's line",
  );
  assert.match(monitorsLog(), new RegExp(`^\\S+ request ${trace} failed: execve /not/there: No such file`, "m"));
});

test("an exec without a trace has a short id of its own", async () => {
  const container = await runContainer(agent, pod, containerConfig());
  await assert.rejects(exec(agent, container, ["/nor/here"]), /nor\/here/);
  const line = agentsLines().find(({ method, error }) => method === "ExecSync" && error?.includes("/nor/here"));
  assert.match(line?.request ?? "", /^[0-9a-f]{8}$/);
  assert.match(monitorsLog(), new RegExp(`request ${line?.request} failed: execve /nor/here`));
  const lines = agentsLines().filter(({ request }) => request === line?.request);
  assert.equal(lines.length, 1, "no other call has it");
});

test("an import that fails in the unpacker: the person who called is told the id, and finds all of it", async () => {
  const path = join(agent.paths.base, "broken.tar");
  writeFileSync(path, Buffer.alloc(1024, "x"));
  const berth = (...args: string[]) => runCli(args, { BERTH_SOCKET: agent.socket });
  const { stderr, code } = await berth("image", "import", "--rootfs", path, "--name", "broken:1");
  assert.equal(code, 1);
  const [, id] = /could not be unpacked: .*\(request ([0-9a-f]{8})\)\n$/.exec(stderr) ?? [];
  assert.ok(id !== undefined, stderr);
  const line = agentsLines().find(({ request, method }) => request === id && method === "ImportImage");
  const report = JSON.parse(line?.report ?? "{}") as { request?: string; step?: string };
  assert.equal(report.request, id, "the unpacker's own line");
  assert.match((await berth("debug", "events", "--request", id)).stdout, /^TIME.*\n\S+ +ImportImage .* INTERNAL +\S+/);
});
