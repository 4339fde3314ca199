import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UnavailableError } from "./errors.js";
import { MonitorClient } from "./monitor-client.js";

const events = { containerExit: () => undefined, outOfMemory: () => undefined, closed: () => assert.fail("closed") };

test("a monitor that takes the connection and says nothing is not waited for", async () => {
  const directory = mkdtempSync(join(tmpdir(), "berth-monitor-"));
  const path = join(directory, "socket");
  const peers: Socket[] = [];
  const server = createServer((peer) => peers.push(peer)).listen(path);
  await once(server, "listening");
  try {
    await assert.rejects(MonitorClient.connect("a-pod", path, events, 50), UnavailableError);
    await assert.rejects(MonitorClient.connect("a-pod", join(directory, "none"), events, 50), UnavailableError);
  } finally {
    for (const peer of peers) peer.destroy();
    server.close();
    rmSync(directory, { recursive: true });
  }
});
