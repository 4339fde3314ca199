/** Runs inside the machine: test file after test file as the host orders them, each result a line on the virtio port. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, writeSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { run } from "node:test";
import { inspect } from "node:util";
import { type GuestRecord, type Order, resultsPort } from "./records.js";

/** A test that takes longer is reported as failed, and the next one gets its turn. */
const testTimeoutMs = 600_000;

interface TestEvent {
  name: string;
  nesting: number;
  file?: string;
  skip?: string | boolean;
  todo?: string | boolean;
  details: { duration_ms: number; type?: string; error?: Error & { failureType?: string } };
}

const port = openSync(findPort(), "r+");
const send = (record: GuestRecord): void => {
  writeSync(port, `${JSON.stringify(record)}\n`);
};

send({
  type: "boot",
  kernel: release(),
  uptimeMs: Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000,
  cgroups: cgroups(),
});
for (let order = nextOrder(); "run" in order; order = nextOrder()) {
  Object.assign(process.env, order.settings);
  await runFile(order.run);
}
send({ type: "end" });
closeSync(port);

function nextOrder(): Order {
  send({ type: "ready" });
  const chunk = Buffer.alloc(4096);
  let line = "";
  while (!line.endsWith("\n")) {
    const length = readSync(port, chunk);
    if (length === 0) throw new Error("the host has closed the port");
    line += chunk.toString("utf8", 0, length);
  }
  return JSON.parse(line) as Order;
}

async function runFile(file: string): Promise<void> {
  const started = performance.now();
  // a suite's result comes after those of its tests, but its start comes first: that gives the names around a test
  const names: string[] = [];
  let reported = 0;
  const report = (event: TestEvent, passed: boolean): void => {
    const own = event.name === file;
    const name = own ? [] : [...names.slice(0, event.nesting), event.name];
    const durationMs = event.details.duration_ms;
    const error = event.details.error;
    // a parent that failed only because of its subtests says nothing new
    if (!passed && error?.failureType === "subtestsFailed" && reported > 0) return;
    if (own && passed && reported > 0) return;
    if (passed && event.details.type === "suite" && event.skip === undefined) return;
    reported++;
    const reason = event.skip ?? event.todo;
    if (reason !== undefined && reason !== false) {
      const text = typeof reason === "string" && reason !== "" ? reason : "no reason was given";
      send({ type: "test", file, name, result: "skipped", durationMs, reason: text });
    } else if (passed && !own) {
      send({ type: "test", file, name, result: "passed", durationMs });
    } else {
      const text = passed ? "the file holds no test" : describe(error);
      send({ type: "test", file, name, result: "failed", durationMs, error: text });
    }
  };
  const events = run({ files: [file], concurrency: 1, timeout: testTimeoutMs });
  events.on("test:start", (event: { name: string; nesting: number }) => {
    names.splice(event.nesting, names.length, event.name);
  });
  events.on("test:pass", (event: TestEvent) => report(event, true));
  events.on("test:fail", (event: TestEvent) => report(event, false));
  for (const stream of ["test:stdout", "test:stderr"] as const) {
    events.on(stream, (event: { message: string }) => send({ type: "output", file, text: event.message }));
  }
  await new Promise<void>((resolve) => events.resume().once("end", resolve));
  if (reported === 0) {
    const durationMs = performance.now() - started;
    send({ type: "test", file, name: [], result: "failed", durationMs, error: "the file reported no test" });
  }
}

function describe(error: (Error & { failureType?: string }) | undefined): string {
  const cause = error?.cause ?? error;
  const text = cause instanceof Error ? inspect(cause, { depth: 4, maxStringLength: 4000 }) : String(cause);
  return error?.failureType === "testTimeoutFailure" ? `time-out: ${text}` : text;
}

function cgroups(): string {
  const controllers = "/sys/fs/cgroup/cgroup.controllers";
  if (existsSync(controllers)) return `cgroup v2 with ${readFileSync(controllers, "utf8").trim()}`;
  return `cgroup v1 with ${readdirSync("/sys/fs/cgroup").join(" ")}`;
}

/** The device of the port with the host's name for it: /dev/vport0p1 or another. */
function findPort(): string {
  const ports = "/sys/class/virtio-ports";
  for (const device of readdirSync(ports)) {
    if (readFileSync(join(ports, device, "name"), "utf8").trim() === resultsPort) return join("/dev", device);
  }
  throw new Error(`no virtio port is named ${resultsPort}`);
}
