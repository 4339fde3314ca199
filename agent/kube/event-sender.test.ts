import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type ApiClient, ApiError, type ApiRequest } from "./api-client.js";
import { EventSender, type PodEvent } from "./event-sender.js";
import { Said } from "./said.js";

const event = (container: string, pod = "p"): PodEvent => ({
  pod: { namespace: "ns", name: pod, uid: `uid-${pod}` },
  container,
  type: "Warning",
  reason: "OutOfMemory",
  message: "m".repeat(5_000),
  at: Date.now(),
});

function start(answer: (request: ApiRequest, calls: number) => void = () => undefined) {
  const requests: ApiRequest[] = [];
  const call = async (request: ApiRequest): Promise<never> => {
    requests.push(request);
    answer(request, requests.length);
    return undefined as never;
  };
  const abort = new AbortController();
  const said = new Said({ warn: () => undefined, info: () => undefined });
  const api: Pick<ApiClient, "call"> = { call };
  const sender = new EventSender({ api, said, node: "n", signal: abort.signal });
  const running = sender.run();
  const stop = async () => {
    abort.abort();
    await running;
  };
  const until = async (isSo: () => boolean) => {
    for (const end = Date.now() + 20_000; !isSo(); await sleep(5)) assert.ok(Date.now() < end, String(isSo));
  };
  return { sender, requests, stop, until };
}

test("the same event again is counted on the first one, and its message is cut", async () => {
  const { sender, requests, stop, until } = start();
  sender.offer(event("a"));
  await until(() => requests.length === 1);
  sender.offer(event("a"));
  await until(() => requests.length === 2);
  const [made, counted] = requests as [ApiRequest, ApiRequest];
  const body = made.body as { message: string; metadata: { name: string }; involvedObject: { fieldPath: string } };
  assert.equal(body.message.length, 1_000);
  assert.equal(body.involvedObject.fieldPath, "spec.containers{a}");
  assert.equal(counted.path, `/api/v1/namespaces/ns/events/${body.metadata.name}`);
  assert.deepEqual([counted.method, (counted.body as { count: number }).count], ["PATCH", 2]);
  await stop();
});

test("a pod has ten at once, and does not keep another pod's from being sent", async () => {
  const { sender, requests, stop, until } = start();
  for (let n = 0; n < 15; n++) sender.offer(event(`c${n}`));
  sender.offer(event("other", "q"));
  await until(() => requests.length >= 11);
  await sleep(50);
  assert.equal(requests.filter(({ body }) => JSON.stringify(body).includes("uid-p")).length, 10);
  assert.equal(requests.filter(({ body }) => JSON.stringify(body).includes("uid-q")).length, 1);
  await stop();
});

test("what the server refuses for good is dropped; what fails is sent later", async () => {
  const { sender, requests, stop, until } = start((_request, calls) => {
    if (calls === 1) throw new Error("connection reset");
    if (calls === 3) throw new ApiError(404, "no such namespace");
  });
  sender.offer(event("a"));
  await until(() => requests.length === 2);
  sender.offer(event("b"));
  await until(() => requests.length === 3);
  sender.offer(event("c"));
  await until(() => requests.length === 4);
  const containers = requests.map(({ body }) => /containers\{(.)\}/.exec(JSON.stringify(body))?.[1]);
  assert.deepEqual(containers, ["a", "a", "b", "c"]);
  await stop();
});
