/** What `berth kube` knows of the API server, against a small real one over HTTPS. */
import assert from "node:assert/strict";
import { copyFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { ApiClient } from "../../agent/kube/api-client.js";
import { Credentials } from "../../agent/kube/credentials.js";
import { type ApiObject, Informer } from "../../agent/kube/informer.js";
import { Said } from "../../agent/kube/said.js";
import { type ApiServerObject, TestApiServer } from "../support/api-server.js";
import { makeAuthority, type TestAuthority } from "../support/certificates.js";
import { until } from "../support/until.js";

const path = "/api/v1/pods";
const pod = (uid: string, more: object = {}): ApiServerObject => ({
  metadata: { uid, name: `pod-${uid}`, namespace: "ns" },
  spec: { nodeName: "here" },
  ...more,
});

describe("the informer of berth kube", () => {
  let authority: TestAuthority;
  let server: TestApiServer;
  let abort: AbortController;
  let running: Promise<void>;
  let items: ReadonlyMap<string, string> = new Map();
  let told = 0;
  const sentences: string[] = [];
  const names = () => [...items.values()].sort().join(" ");

  before(async () => {
    authority = await makeAuthority();
    const tls = await authority.server("IP:127.0.0.1");
    server = new TestApiServer({ tls, tokens: new Set(["secret"]) });
    await server.start();
    writeFileSync(join(authority.directory, "token"), "secret\n");
    copyFileSync(authority.certificate, join(authority.directory, "ca.crt"));
    const log = (sentence: string) => void sentences.push(sentence);
    const said = new Said({ warn: log, info: log } as never);
    const api = new ApiClient(new Credentials({ serviceAccount: authority.directory, server: server.url }, said), said);
    server.put(path, pod("elsewhere", { spec: { nodeName: "there" } }));
    for (const uid of ["a", "b"]) server.put(path, pod(uid));
    abort = new AbortController();
    running = new Informer({
      api,
      said,
      path,
      fieldSelector: "spec.nodeName=here",
      keep: ({ metadata }: ApiObject) => {
        if (metadata?.name === "pod-broken") throw new Error("it is broken");
        return metadata?.name ?? "";
      },
      onChange: (now) => {
        items = new Map(now);
        told += 1;
      },
      signal: abort.signal,
      timing: { firstPauseMs: 20, longestPauseMs: 200, resyncMs: 100 },
    }).run();
  });
  after(async () => {
    abort.abort();
    await running;
    await server.stop();
    await authority.remove();
  });

  it("lists, watches, and tells all again once in a while", async () => {
    await until(() => names() === "pod-a pod-b" && server.watchesOf(path) === 1);
    server.put(path, pod("c"));
    await until(() => names() === "pod-a pod-b pod-c");
    server.remove(path, "a");
    await until(() => names() === "pod-b pod-c");
    const [before, asked] = [told, server.seen.length];
    await until(() => told > before + 2);
    assert.equal(server.seen.length, asked);
  });

  it("goes on from a bookmark after its connection has broken", async () => {
    server.passVersion();
    server.bookmark(path);
    server.put(path, pod("bookmarked"));
    await until(() => names().includes("pod-bookmarked"));
    server.passVersion();
    server.bookmark(path);
    // the bookmark has come when what follows it has
    server.put(path, pod("bookmarked", { changed: true }));
    const before = told;
    await until(() => told > before);
    const lists = () => server.requests("GET", /pods$/).filter(({ query }) => query.get("watch") === null).length;
    const listed = lists();
    server.cutWatches();
    await until(() => server.watchesOf(path) === 1);
    server.put(path, pod("after"));
    await until(() => names().includes("pod-after"));
    assert.equal(lists(), listed);
  });

  it("lists anew, and not from the server's cache, when its version is forgotten", async () => {
    server.passVersion();
    server.forgetHistory();
    const seen = server.seen.length;
    server.cutWatches();
    await until(() => server.seen.slice(seen).some(({ query }) => query.get("limit") !== null));
    const list = server.seen.slice(seen).find(({ query }) => query.get("limit") !== null);
    assert.equal(list?.query.get("resourceVersion"), null);
    await until(() => server.watchesOf(path) === 1);
    server.put(path, pod("d"));
    await until(() => names().includes("pod-d"));
  });

  it("keeps what it knows while the server is away, and says it once", async () => {
    const before = names();
    let refused = 0;
    server.answer = (_request, response) => {
      refused += 1;
      response.writeHead(503).end();
      return true;
    };
    server.cutWatches();
    await until(() => refused >= 4);
    const said = sentences.filter((sentence) => /watched/.test(sentence));
    assert.equal(said.filter((sentence) => sentence.includes("503")).length, 1, said.join("\n"));
    server.answer = () => false;
    await until(() => server.watchesOf(path) === 1);
    await server.stop();
    await until(() => sentences.some((sentence) => sentence.includes("cannot be watched")));
    assert.equal(names(), before);
    server.remove(path, "b");
    await server.start();
    await until(() => !names().split(" ").includes("pod-b"));
    const away = sentences.filter((sentence) => /cannot be watched.*ECONNREFUSED/.test(sentence));
    assert.ok(away.length <= 1, away.join("\n"));
    await until(() => sentences.some((sentence) => sentence.includes("is watched again")));
  });

  it("leaves out what is broken or huge, and goes on", async () => {
    await until(() => server.watchesOf(path) === 1);
    server.put(path, pod("broken"));
    server.sendLine(path, "{".repeat(9 * 1024 * 1024));
    await until(() => sentences.some((sentence) => sentence.includes("more than 8 MiB")));
    server.sendLine(path, '{"type":"ADDED","object":"text"}');
    await until(() => server.watchesOf(path) === 0);
    await until(() => server.watchesOf(path) === 1);
    server.sendLine(path, "not JSON");
    await until(() => server.watchesOf(path) === 0);
    server.put(path, pod("e"));
    await until(() => names().includes("pod-e"));
    assert.ok(sentences.some((sentence) => sentence.includes("the object broken is left out: it is broken")));
    assert.ok(!names().includes("pod-broken"));
  });

  it("lists anew when the server has never been at its version: it was restored from a copy", async () => {
    await until(() => server.watchesOf(path) === 1);
    let lists = 0;
    server.answer = ({ query }, response) => {
      if (query.get("watch") === null) lists++;
      if (lists > 0) return false;
      response.writeHead(504).end('{"message":"Too large resource version: 900, current: 100"}');
      return true;
    };
    server.cutWatches();
    await until(() => lists > 0);
    server.answer = () => false;
    await until(() => server.watchesOf(path) === 1);
  });

  it("leaves a server alone for as long as it asks for", async () => {
    const asked: number[] = [];
    server.answer = (_request, response) => {
      asked.push(performance.now());
      if (asked.length === 1) response.writeHead(429, { "retry-after": "2" }).end();
      return asked.length === 1;
    };
    server.cutWatches();
    await until(() => asked.length > 1);
    server.answer = () => false;
    assert.ok((asked[1] ?? 0) - (asked[0] ?? 0) > 1_900, `${asked}`);
    await until(() => server.watchesOf(path) === 1);
  });

  it("does not read a list that never ends", async () => {
    let pages = 0;
    server.answer = ({ query }, response) => {
      if (query.get("watch") !== null || pages > 2_000) return false;
      pages++;
      response.end(JSON.stringify({ metadata: { resourceVersion: "1", continue: "more" }, items: [] }));
      return true;
    };
    server.passVersion();
    server.forgetHistory();
    server.cutWatches();
    await until(() => sentences.some((sentence) => sentence.includes("the list does not end")));
    assert.ok(pages <= 1_100, `${pages}`);
    server.answer = () => false;
    await until(() => server.watchesOf(path) === 1);
  });

  it("reads a list in pages", async () => {
    for (let n = 0; n < 1_100; n++) server.put(path, pod(`page-${n}`));
    server.forgetHistory();
    server.passVersion();
    server.cutWatches();
    await until(() => server.seen.some(({ query }) => query.get("continue") === "1000"));
    await until(() => items.size > 1_100);
  });
});

describe("a server that berth kube asks", () => {
  let authority: TestAuthority;
  const clientOf = (url: string): ApiClient => {
    const said = new Said({ warn: () => undefined, info: () => undefined });
    const credentials = new Credentials({ serviceAccount: authority.directory, server: url }, said);
    return new ApiClient(credentials, said, { answerMs: 500, wholeAnswerMs: 1_000 });
  };
  const question = { method: "GET" as const, path, signal: new AbortController().signal };
  const readLines = async (api: ApiClient) => {
    for await (const _ of api.lines(question, 60_000, () => undefined));
  };
  before(async () => {
    authority = await makeAuthority();
    writeFileSync(join(authority.directory, "token"), "secret\n");
    copyFileSync(authority.certificate, join(authority.directory, "ca.crt"));
  });
  after(() => authority.remove());

  it("may say nothing at all, or not end its handshake, and is given up, by a watch, too", async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
    await until(() => silent.listening);
    const api = clientOf(`https://127.0.0.1:${(silent.address() as AddressInfo).port}`);
    const begun = performance.now();
    await assert.rejects(api.call(question), /sent nothing for 0\.5 s/);
    await assert.rejects(readLines(api), /sent nothing for 0\.5 s/);
    assert.ok(performance.now() - begun < 5_000);
    await until(() => sockets.every((socket) => socket.destroyed || socket.readableEnded || socket.resume().destroyed));
    silent.close();
  });

  it("may answer by the byte for ever, or switch to something else, and is given up", async () => {
    const server = new TestApiServer({ tls: await authority.server("IP:127.0.0.1"), tokens: new Set(["secret"]) });
    await server.start();
    const api = clientOf(server.url);
    for (const status of [200, 503]) {
      let timer: NodeJS.Timeout | undefined;
      let isClosed = false;
      server.answer = (_request, response) => {
        response.writeHead(status);
        timer = setInterval(() => response.write(" "), 50);
        response.once("close", () => {
          isClosed = true;
        });
        return true;
      };
      await assert.rejects(api.call(question), status === 200 ? /was not done in 1 s/ : /503/);
      await until(() => isClosed);
      clearInterval(timer);
    }
    server.answer = (_request, response) => {
      response.socket?.end("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
      return true;
    };
    await assert.rejects(api.call(question), /without an answer/);
    await server.stop();
  });
});
