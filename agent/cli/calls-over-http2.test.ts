import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, describe, it } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { CallConnection, CallError, callCodes } from "./calls-over-http2.js";

const directory = mkdtempSync(join(tmpdir(), "berth-calls-"));
const socket = join(directory, "s");
after(() => rmSync(directory, { recursive: true }));

const bytes = (text: string) => Buffer.from(text);
const raw = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
function same(message: Buffer): Buffer {
  return message;
}

let server: grpc.Server;
let cancelled: Promise<unknown>;

async function serve(): Promise<void> {
  server = new grpc.Server({ "grpc.max_send_message_length": -1, "grpc.max_receive_message_length": -1 });
  let tellCancelled: () => void = () => undefined;
  cancelled = new Promise<void>((resolve) => {
    tellCancelled = resolve;
  });
  const definition = (name: string, responseStream: boolean) => ({
    path: `/test/${name}`,
    requestStream: false,
    responseStream,
    ...raw,
  });
  server.addService(
    {
      Echo: definition("Echo", false),
      Fail: definition("Fail", false),
      Hang: definition("Hang", false),
      Many: definition("Many", true),
    },
    {
      Echo: (call: { request: Buffer }, callback: grpc.sendUnaryData<Buffer>) => callback(null, call.request),
      Fail(_call: unknown, callback: grpc.sendUnaryData<Buffer>) {
        const metadata = new grpc.Metadata();
        metadata.set("berth-request-id", "0123abcd");
        callback({ code: grpc.status.NOT_FOUND, details: "kein Behälter, 100%", metadata });
      },
      Hang: (call: grpc.ServerUnaryCall<Buffer, Buffer>) => void call.on("cancelled", tellCancelled),
      async Many(call: grpc.ServerWritableStream<Buffer, Buffer>) {
        call.on("cancelled", tellCancelled);
        for (let number = 0; !call.cancelled && number < Number(call.request.toString()); number++) {
          if (!call.write(bytes(`${number}`))) await Promise.race([once(call, "drain"), cancelled]);
        }
        call.end();
      },
    },
  );
  await new Promise<void>((resolve, reject) => {
    const insecure = grpc.ServerCredentials.createInsecure();
    server.bindAsync(`unix:${socket}`, insecure, (error) => (error === null ? resolve() : reject(error)));
  });
}

async function answersOf(connection: CallConnection, method: string, question: Buffer, timeoutMs?: number) {
  const all: Buffer[] = [];
  for await (const answer of connection.answers(`/test/${method}`, question, timeoutMs)) all.push(Buffer.from(answer));
  return all;
}

function failsWith(code: number, details: RegExp, requestId?: string) {
  return (error: unknown) => {
    assert.ok(error instanceof CallError, String(error));
    assert.equal(error.code, code, error.details);
    assert.match(error.details, details);
    assert.equal(error.requestId, requestId);
    return true;
  };
}

describe("calls to gRPC's own server", () => {
  let connection: CallConnection;
  beforeEach(async () => {
    await serve();
    connection = new CallConnection(socket, 1024 * 1024);
  });
  afterEach(() => {
    connection.close();
    server.forceShutdown();
  });

  it("are answered: nothing, a word, a megabyte, many at once", async () => {
    const questions = [Buffer.alloc(0), bytes("word"), Buffer.alloc(1024 * 1024, 7)];
    const answers = await Promise.all(questions.map((question) => answersOf(connection, "Echo", question)));
    assert.deepEqual(
      answers,
      questions.map((question) => [question]),
    );
  });

  it("are answered by streams, in order", async () => {
    const answers = await answersOf(connection, "Many", bytes("20000"));
    assert.deepEqual(
      answers.map(String),
      Array.from({ length: 20_000 }, (_, number) => `${number}`),
    );
    assert.deepEqual(await answersOf(connection, "Many", bytes("0")), []);
  });

  it("fail with the server's code, sentence and request id", async () => {
    const failed = failsWith(callCodes.notFound, /^kein Behälter, 100%$/, "0123abcd");
    await assert.rejects(answersOf(connection, "Fail", bytes("")), failed);
    await assert.rejects(answersOf(connection, "Missing", bytes("")), failsWith(grpc.status.UNIMPLEMENTED, /Missing/));
  });

  it("end at their deadline, and the server knows", async () => {
    const late = failsWith(callCodes.deadlineExceeded, /within 0\.05 s/);
    await assert.rejects(answersOf(connection, "Hang", bytes(""), 50), late);
    await cancelled;
    assert.equal(String(await answersOf(connection, "Echo", bytes("still there"))), "still there");
  });

  it("are cancelled by who stops reading", async () => {
    for await (const answer of connection.answers("/test/Many", bytes("1000000"))) if (String(answer) === "10") break;
    await cancelled;
  });

  it("refuse what is larger than the limit", async () => {
    const tooLarge = failsWith(callCodes.resourceExhausted, /has 1048577 bytes/);
    await assert.rejects(answersOf(connection, "Echo", Buffer.alloc(1024 * 1024 + 1)), tooLarge);
  });

  it("fail when the server goes, and are answered when it is back", async () => {
    const away = failsWith(callCodes.unavailable, /connection was lost/);
    const hanging = assert.rejects(answersOf(connection, "Hang", bytes("")), away);
    await answersOf(connection, "Echo", bytes("both have begun"));
    server.forceShutdown();
    await hanging;
    rmSync(socket, { force: true });
    await assert.rejects(answersOf(connection, "Echo", bytes("")), away);
    await serve();
    assert.equal(String(await answersOf(connection, "Echo", bytes("again"))), "again");
  });
});
