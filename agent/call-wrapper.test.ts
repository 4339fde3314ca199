import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import pino from "pino";
import type { FinishedCall } from "../metrics/own.js";
import { InternalError, InvalidArgumentError, NotFoundError } from "../sandbox/errors.js";
import { statusOf, wrapStream, wrapUnary } from "./call-wrapper.js";
import { RecentCalls } from "./recent-calls.js";
import { encodeAnswer, methodDefinition, runtimeService, serverDefinition } from "./services.js";

const scratch = mkdtempSync(join(tmpdir(), "berth-wrapper-"));
const lines: Record<string, unknown>[] = [];
const finished: FinishedCall[] = [];
const lineLog = pino({ level: "debug" }, { write: (line: string) => lines.push(JSON.parse(line)) });
const log = Object.assign(lineLog, { areas: { calls: lineLog, steps: lineLog, events: lineLog } });
const recentCalls = new RecentCalls();
const around = { log, recentCalls, observeCall: (call: FinishedCall) => finished.push(call) };
const server = new grpc.Server();
let client: grpc.Client;

const exec = methodDefinition("t", "ExecSync", runtimeService.ExecSync);
const events = methodDefinition("t", "GetContainerEvents", runtimeService.GetContainerEvents);
let aborted: Promise<void>;

before(async () => {
  let onAbort: () => void;
  aborted = new Promise((resolve) => {
    onAbort = resolve;
  });
  const unary = wrapUnary(
    "ExecSync",
    async (request: { container_id: string }, signal) => {
      if (request.container_id === "none") throw new NotFoundError('container "none" is not known');
      if (request.container_id === "bug") throw new Error("a bug");
      if (request.container_id !== "wait") return { exit_code: 3 };
      return new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => {
          onAbort();
          reject(new Error("whatever the kernel said"));
        });
      });
    },
    around,
    (answer) => encodeAnswer(runtimeService.ExecSync, answer),
  );
  const stream = wrapStream(
    "GetContainerEvents",
    async function* () {
      yield { container_id: "1" };
      yield { container_id: "2" };
      throw new InvalidArgumentError("enough");
    },
    around,
    (event) => encodeAnswer(runtimeService.GetContainerEvents, event),
  );
  const definitions = {
    ExecSync: serverDefinition("t", "ExecSync", runtimeService.ExecSync),
    GetContainerEvents: serverDefinition("t", "GetContainerEvents", runtimeService.GetContainerEvents),
  };
  server.addService(definitions, { ExecSync: unary, GetContainerEvents: stream });
  const address = `unix://${join(scratch, "s")}`;
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
  });
  client = new grpc.Client(address, grpc.credentials.createInsecure());
});

after(() => {
  client.close();
  server.forceShutdown();
  rmSync(scratch, { recursive: true });
});

function call(containerId: string, deadlineMs = 5_000): Promise<{ exit_code: number } | grpc.ServiceError> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      exec.path,
      exec.requestSerialize,
      exec.responseDeserialize,
      { container_id: containerId },
      new grpc.Metadata(),
      { deadline: Date.now() + deadlineMs },
      (error, answer) => resolve(error ?? (answer as { exit_code: number })),
    );
  });
}

test("an answer, its timing and its line", async () => {
  const answer = await call("abc");
  assert.equal("exit_code" in answer && answer.exit_code, 3);
  const told = finished.at(-1);
  assert.deepEqual([told?.method, told?.code], ["ExecSync", "OK"]);
  assert.ok(told !== undefined && told.seconds > 0 && told.seconds < 5);
  const line = lines.at(-1);
  assert.deepEqual([line?.["method"], line?.["code"], line?.["container"]], ["ExecSync", "OK", "abc"]);
});

test("an error of ours has its own code and sentence", async () => {
  const error = (await call("none")) as grpc.ServiceError;
  assert.deepEqual([error.code, error.details], [grpc.status.NOT_FOUND, 'container "none" is not known']);
  assert.equal(finished.at(-1)?.code, "NOT_FOUND");
});

test("an unknown error is INTERNAL and is logged with its stack", async () => {
  const error = (await call("bug")) as grpc.ServiceError;
  assert.deepEqual([error.code, error.details], [grpc.status.INTERNAL, "a bug"]);
  assert.match(String(lines.at(-1)?.["stack"]), /call-wrapper\.test/);
});

test("a deadline of the caller aborts the handler, and the log tells that it was the deadline", {
  timeout: 5_000,
}, async () => {
  const error = (await call("wait", 100)) as grpc.ServiceError;
  assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED);
  await aborted;
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(finished.at(-1)?.code, "DEADLINE_EXCEEDED");
});

test("a stream's messages come in order, and then its error", async () => {
  const stream = client.makeServerStreamRequest(events.path, events.requestSerialize, events.responseDeserialize, {});
  const seen: string[] = [];
  const error = await new Promise<grpc.ServiceError>((resolve) => {
    stream.on("data", (message: { container_id: string }) => seen.push(message.container_id));
    stream.on("error", resolve);
  });
  assert.deepEqual(seen, ["1", "2"]);
  assert.deepEqual([error.code, error.details], [grpc.status.INVALID_ARGUMENT, "enough"]);
});

test("a failed system call is told in its own words: call, path, errno and what the kernel said of it", () => {
  const subject = "/sys/fs/cgroup/x";
  const failed = (errnoName: string, errno: number) =>
    Object.assign(new Error(`mkdir ${subject}: (${errnoName})`), { syscall: "mkdir", errnoName, errno, subject });
  assert.deepEqual(statusOf(failed("EACCES", 13)), {
    code: grpc.status.INTERNAL,
    details: "mkdir /sys/fs/cgroup/x: (EACCES)",
  });
  // the disk is full, or the kernel has no more of them: whoever was wrapped around it
  for (const error of [failed("ENOSPC", 28), new InternalError("x", { cause: failed("EDQUOT", 122) })]) {
    assert.equal(statusOf(error).code, grpc.status.RESOURCE_EXHAUSTED);
  }
});

test("what is the machine's state has a status to try again by, the call, the path and a remedy", async () => {
  const failed = (name: keyof typeof constants.errno, path: string, syscall = "open") =>
    Object.assign(new Error(`${name}: as Node says it, ${syscall} '${path}'`), {
      code: name,
      errno: -constants.errno[name],
      syscall,
      path,
    });
  const told = (error: unknown) => {
    const { code, details } = statusOf(error);
    return `${grpc.status[code]} ${details}`;
  };
  assert.match(told(failed("EROFS", "/x")), /^UNAVAILABLE open \/x: EROFS \(the file system is read-only\): mount it/);
  assert.match(told(failed("EIO", "/x")), /^UNAVAILABLE open \/x: EIO \(.*\): its disk fails.*dmesg/);
  assert.match(told(failed("ENOSPC", "/x")), /^RESOURCE_EXHAUSTED open \/x: ENOSPC .*berth image prune$/);
  assert.match(
    told(failed("EDQUOT", "/x")),
    /^RESOURCE_EXHAUSTED open \/x: EDQUOT \(a quota is used up\): raise the quota/,
  );
  assert.match(told(failed("ENFILE", "/x")), /^RESOURCE_EXHAUSTED .*fs\.file-max$/);
  assert.match(told(failed("ENOMEM", "/x")), /^RESOURCE_EXHAUSTED .*memory/);
  // in whatever it was wrapped, it was no argument
  const wrapped = new InvalidArgumentError("config.mounts: x cannot be opened", { cause: failed("EMFILE", "/x") });
  assert.match(told(wrapped), /^RESOURCE_EXHAUSTED config\.mounts: x cannot be opened: the agent has .*LimitNOFILE/);
  // but a volume may be read-only
  const readOnly = new InvalidArgumentError("config.mounts: x", { cause: failed("EROFS", "/x") });
  assert.equal(told(readOnly), "INVALID_ARGUMENT config.mounts: x");
  // a clone wants no disk
  assert.match(told(failed("ENOSPC", "", "clone3")), /^RESOURCE_EXHAUSTED .*user\.max_net_namespaces/);
  assert.match(told(failed("EAGAIN", "", "clone3")), /^RESOURCE_EXHAUSTED .*kernel\.pid_max/);
  assert.match(told(failed("EAGAIN", "/x")), /^INTERNAL /);
  assert.match(told(failed("EIO", "/proc/self/x")), /^INTERNAL /);
  assert.match(told(failed("EROFS", "/sys/fs/cgroup/x", "rmdir")), /^UNAVAILABLE rmdir \/sys.*mount it for writing/);
});

test("an error with a number for a code does not choose the status", () => {
  assert.equal(statusOf(Object.assign(new Error("x"), { code: 5 })).code, grpc.status.INTERNAL);
});

test("a message that is larger than a header may be keeps its beginning and its end", () => {
  const { details } = statusOf(new InvalidArgumentError(`config.x: ${"a".repeat(100_000)}: ENAMETOOLONG`));
  assert.ok(details.length < 5_000);
  assert.match(details, /^config\.x: a+ \[\.\.\.\] a+: ENAMETOOLONG$/);
});
