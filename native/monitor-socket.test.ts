import assert from "node:assert/strict";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type MonitorSocket, native, type SystemError } from "./binding.js";
import { compileProgram, failure, openDescriptors, scratchDirectory, until } from "./test-support.js";

interface Peer {
  path: string;
  server: Server;
  connection: Promise<Socket>;
}

async function peer(t: TestContext): Promise<Peer> {
  const path = join(scratchDirectory(t), "m");
  const server = createServer();
  const connection = new Promise<Socket>((resolve) => server.once("connection", resolve));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(async () => {
    server.close();
    (await connection).destroy();
  });
  return { path, server, connection };
}

function connect(path: string) {
  const frames: Buffer[] = [];
  const closes: (SystemError | null)[] = [];
  const socket: MonitorSocket = native.connectMonitor(path, {
    onFrame: (frame) => frames.push(frame),
    onClose: (error) => closes.push(error),
  });
  return { socket, frames, closes };
}

function frame(content: Uint8Array): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32LE(content.length);
  return Buffer.concat([header, content]);
}

function collect(socket: Socket): { bytes(): Buffer } {
  const parts: Buffer[] = [];
  socket.on("data", (part) => parts.push(part));
  return { bytes: () => Buffer.concat(parts) };
}

test("frames come whole, however they are cut", async (t) => {
  const { path, connection } = await peer(t);
  const { socket, frames, closes } = connect(path);
  const remote = await connection;
  const large = Buffer.alloc(3_000_000, "x");
  const bytes = Buffer.concat([
    frame(Buffer.from("one")),
    frame(Buffer.alloc(0)),
    frame(large),
    frame(Buffer.from("z")),
  ]);
  for (let at = 0; at < 20; at++) {
    remote.write(bytes.subarray(at, at + 1));
    await new Promise((resolve) => setImmediate(resolve));
  }
  remote.write(bytes.subarray(20));
  await until("four frames", () => frames.length === 4);
  assert.deepEqual(
    frames.map((f) => f.length),
    [3, 0, 3_000_000, 1],
  );
  assert.ok(frames[2]?.equals(large));
  assert.deepEqual(closes, []);
  socket.close();
});

test("what the peer does not take yet is queued, in order", async (t) => {
  const { path, connection } = await peer(t);
  const { socket } = connect(path);
  const remote = await connection;
  remote.pause();
  const sent = Array.from({ length: 40 }, (_, i) => Buffer.alloc(100_000, i));
  for (const content of sent) socket.send(content, []);
  const received = collect(remote);
  remote.resume();
  const expected = Buffer.concat(sent.map(frame));
  await until("all bytes", () => received.bytes().length === expected.length);
  assert.ok(received.bytes().equals(expected));
  socket.close();
});

test("the peer's end is told once, after its last frame", async (t) => {
  const { path, connection } = await peer(t);
  const { socket, frames, closes } = connect(path);
  (await connection).end(frame(Buffer.from("last")));
  await until("the end", () => closes.length > 0);
  assert.deepEqual(frames.map(String), ["last"]);
  assert.deepEqual(closes, [null]);
  assert.equal((await failure(() => socket.send(Buffer.from("late"), []))).errnoName, "ENOTCONN");
  socket.close();
});

test("an end within a frame and a frame over the limit are failures", async (t) => {
  for (const [bytes, errnoName] of [
    [frame(Buffer.from("torn")).subarray(0, 6), "EPROTO"],
    [Buffer.from([1, 0, 0, 2]), "EMSGSIZE"],
  ] as const) {
    const { path, connection } = await peer(t);
    const { closes } = connect(path);
    (await connection).end(bytes);
    await until("the end", () => closes.length > 0);
    assert.equal(closes[0]?.errnoName, errnoName);
  }
});

test("no callback after close, also from within one", async (t) => {
  const { path, connection } = await peer(t);
  const before = openDescriptors();
  const frames: string[] = [];
  const socket = native.connectMonitor(path, {
    onFrame: (content) => {
      frames.push(content.toString());
      socket.close();
    },
    onClose: () => assert.fail("told of an end after close"),
  });
  (await connection).end(Buffer.concat([frame(Buffer.from("1")), frame(Buffer.from("2"))]));
  await until("a frame", () => frames.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(frames, ["1"]);
  assert.ok(openDescriptors() <= before + 1);
});

test("nobody there", async (t) => {
  const directory = scratchDirectory(t);
  const handlers = { onFrame: () => {}, onClose: () => {} };
  assert.equal((await failure(() => native.connectMonitor(join(directory, "m"), handlers))).errnoName, "ENOENT");
  const long = join(directory, "d".repeat(150));
  mkdirSync(long);
  assert.equal((await failure(() => native.connectMonitor(join(long, "m"), handlers))).errnoName, "ENOENT");
  const left = await native.spawnMonitor({
    executable: "/bin/true",
    args: [],
    socketPath: join(long, "m"),
    logPath: join(directory, "log"),
    namespaces: { network: false, ipc: false, uts: false, pid: false },
    networkPin: "",
    cgroupTasksFiles: [],
    cgroup2Directory: "",
  });
  await new Promise((resolve) => native.watchProcess(left.pidfd, resolve));
  native.closeDescriptor(left.pidfd);
  assert.equal((await failure(() => native.connectMonitor(join(long, "m"), handlers))).errnoName, "ECONNREFUSED");
});

// Writes for each descriptor which bytes came with it and what can be read from it, and at the end how many bytes came.
const receiver = `
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
  usleep(300000);
  int peer = accept(3, 0, 0);
  static char data[65536], control[4096], text[64];
  struct iovec part = {data, sizeof data};
  long total = 0;
  for (;;) {
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    long got = recvmsg(peer, &message, 0);
    if (got <= 0) break;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (rights) {
      int count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (int i = 0; i < count; i++) {
        int fd = ((int *)CMSG_DATA(rights))[i];
        long size = pread(fd, text, sizeof text - 1, 0);
        dprintf(2, "%ld to %ld: %.*s", total, total + got, (int)size, text);
        close(fd);
      }
    }
    total += got;
  }
  dprintf(2, "total %ld\\n", total);
  return 0;
}
`;

test("descriptors travel with their frame's first byte, also when the frame had to be queued", async (t) => {
  const directory = scratchDirectory(t);
  const monitor = await native.spawnMonitor({
    executable: await compileProgram(directory, "receiver", receiver),
    args: [],
    socketPath: join(directory, "m"),
    logPath: join(directory, "log"),
    namespaces: { network: false, ipc: false, uts: false, pid: false },
    networkPin: "",
    cgroupTasksFiles: [],
    cgroup2Directory: "",
  });
  const end = new Promise((resolve) => native.watchProcess(monitor.pidfd, resolve));
  const { socket } = connect(join(directory, "m"));
  // The receiver sleeps first, so that all but the first frames are queued; the file is closed long before it is sent.
  const file = openSync("/proc/self/comm", "r");
  const filler = Buffer.alloc(500_000);
  socket.send(Buffer.from("first"), [file]);
  socket.send(filler, []);
  socket.send(filler, []);
  socket.send(Buffer.from("second"), [file, file]);
  closeSync(file);
  const total = 9 + 2 * (filler.length + 4) + 10;
  await until("three descriptors", () => readFileSync(join(directory, "log"), "utf8").split("node").length === 4);
  socket.close();
  await end;
  native.closeDescriptor(monitor.pidfd);
  const log = readFileSync(join(directory, "log"), "utf8").trim().split("\n");
  assert.equal(log.pop(), `total ${total}`);
  // The kernel glues what was before it to a read that brings descriptors, but never what comes after.
  for (const [i, start] of [0, total - 10, total - 10].entries()) {
    const match = log[i]?.match(/^(\d+) to (\d+): node$/);
    assert.ok(match && Number(match[1]) <= start && start < Number(match[2]), log[i]);
  }
});
