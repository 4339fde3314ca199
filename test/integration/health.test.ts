/** /healthz and /readyz, as a probe or a load balancer meets them. */
import assert from "node:assert/strict";
import { renameSync, rmSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/until.js";

describe("/healthz and /readyz", () => {
  let agent: TestAgent;
  before(async () => {
    agent = await startAgent();
  });
  after(() => agent.stop());

  const get = async (path: string, method = "GET"): Promise<[status: number, text: string]> => {
    const response = await fetch(new URL(path, agent.metricsUrl), { method });
    return [response.status, await response.text()];
  };

  it("say ok in one word, and each check with ?verbose", async () => {
    assert.deepEqual(await get("/healthz"), [200, "ok"]);
    assert.deepEqual(await get("/livez"), [200, "ok"]);
    assert.deepEqual(await get("/readyz"), [200, "ok"]);
    const checks = ["ping", "serving", "cri", "runtime", "network"].map((name) => `[+]${name} ok\n`).join("");
    assert.deepEqual(await get("/readyz?verbose"), [200, `${checks}readyz check passed\n`]);
    assert.deepEqual(await get("/healthz?verbose=1"), [200, "[+]ping ok\nhealthz check passed\n"]);
  });

  it("answer nothing but GET", async () => {
    assert.equal((await get("/readyz", "POST"))[0], 405);
    assert.equal((await get("/readyz/cri"))[0], 404);
  });

  it("readyz fails while nobody can call the CRI, and healthz does not", async () => {
    const path = agent.socket.replace("unix://", "");
    renameSync(path, `${path}.away`);
    try {
      const [status, text] = await get("/readyz");
      assert.equal(status, 503);
      assert.match(text, /^\[-\]cri failed: no agent answers on .*berth\.sock/m);
      assert.match(text, /^readyz check failed$/m);
      assert.deepEqual(await get("/healthz"), [200, "ok"]);
      assert.deepEqual(await get("/readyz?exclude=cri"), [200, "ok"]);
    } finally {
      renameSync(`${path}.away`, path);
    }
    assert.deepEqual(await get("/readyz"), [200, "ok"]);
  });

  it("readyz fails where pods would get no network, and says why", async () => {
    await agent.restart({ network: "cni" });
    try {
      const [status, text] = await get("/readyz");
      assert.equal(status, 503);
      assert.match(text, /^\[-\]network failed: .*net\.d/m);
      assert.match(text, /^\[\+\]runtime ok$/m);
    } finally {
      await agent.restart({ network: "builtin" });
    }
  });

  it("a socket that is deleted is there again within seconds, and readyz says ok", async () => {
    rmSync(agent.socket.replace("unix://", ""));
    assert.equal((await get("/readyz"))[0], 503);
    await until(async () => (await get("/readyz"))[0] === 200);
    await agent.client.call("Version", {});
    assert.match(agent.logs(), /removed or changed by another program, and made again: socket/);
  });
});
