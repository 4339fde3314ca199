/** Clients of the CRI socket that do not read their answers: they cost the agent little, and the others nothing. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { callAndNotRead } from "../support/unread-calls.js";
import { runPod } from "../support/workload.js";

const MiB = 1024 * 1024;
const service = "/runtime.v1.RuntimeService";

/** What the agent may have while all that clients may leave unread is unread: 128 MiB, and itself. */
const mostPssBytes = 600 * MiB;

describe("answers that clients do not read", () => {
  let agent: TestAgent;
  before(async () => {
    agent = await startAgent();
    const annotations = { long: "x".repeat(1.9 * MiB) };
    await Promise.all(Array.from({ length: 3 }, () => runPod(agent, { annotations })));
  });
  after(() => agent.stop());

  for (const method of ["ListPodSandbox", "StreamPodSandboxes"]) {
    for (const isWindowOpen of [false, true]) {
      const how = isWindowOpen ? "whose connection nobody reads" : "that HTTP/2 may not send";
      it(`5,000 answers of ${method} ${how} are bounded, and others are answered meanwhile`, async () => {
        const clients: Socket[] = [];
        try {
          for (let i = 0; i < 50; i++) {
            clients.push(await callAndNotRead(agent.socket, `${service}/${method}`, 100, isWindowOpen));
          }
          let most = 0;
          for (const until = Date.now() + 4_000; Date.now() < until; await sleep(100)) {
            const { items } = await agent.client.call("ListPodSandbox", {}, 20_000);
            assert.equal(items.length, 3);
            most = Math.max(most, pssBytes(agent.pid));
          }
          assert.ok(most < mostPssBytes, `${Math.round(most / MiB)} MiB`);
        } finally {
          for (const client of clients) client.destroy();
        }
      });
    }
  }
});

function pssBytes(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1]) * 1024;
}
