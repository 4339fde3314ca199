import assert from "node:assert/strict";
import { test } from "node:test";
import type { runtime } from "../cri-proto/generated/runtime.js";
import { ResourceExhaustedError, UnavailableError } from "../sandbox/errors.js";
import { Containers, Pods } from "../sandbox/index-of-ids.js";
import { Observer } from "../sandbox/observer.js";
import { ContainerEvents } from "./container-events.js";
import type { Images } from "./images/images.js";

function node() {
  const observer = new Observer();
  const events = new ContainerEvents({ pods: new Pods(), containers: new Containers(), observer }, {} as Images);
  const happen = (containerId: string) =>
    observer.emit({ type: "container-event", event: "created", podId: "p", containerId });
  return { events, happen };
}

const idOf = async (next: Promise<IteratorResult<runtime.v1.IContainerEventResponse>>) =>
  ((await next).value as runtime.v1.IContainerEventResponse).container_id;

test("who does not take events is cut off, and nobody else", async () => {
  const { events, happen } = node();
  const { signal } = new AbortController();
  const slow = events.subscribe(signal);
  const quick = events.subscribe(signal);
  const first = [slow.next(), quick.next()];
  happen("first");
  assert.deepEqual(await Promise.all(first.map(idOf)), ["first", "first"]);
  for (let n = 0; n <= 1_000; n++) {
    const next = quick.next();
    happen(`c${n}`);
    assert.equal(await idOf(next), `c${n}`);
  }
  await assert.rejects(
    slow.next(),
    (error) => error instanceof ResourceExhaustedError && /subscribe again/.test(error.message),
  );
  const next = quick.next();
  happen("last");
  assert.equal(await idOf(next), "last");
});

test("events are told in their order and never at the same time, from the subscription on", async () => {
  const { events, happen } = node();
  happen("before");
  const all = events.subscribe(new AbortController().signal);
  const first = all.next();
  for (const id of ["a", "b", "c"]) happen(id);
  const told = [await first, await all.next(), await all.next()].map(
    ({ value }) => value as runtime.v1.IContainerEventResponse,
  );
  assert.deepEqual(
    told.map(({ container_id }) => container_id),
    ["a", "b", "c"],
  );
  const times = told.map(({ created_at }) => BigInt(String(created_at)));
  assert.ok(times.every((time, index) => index === 0 || time > (times[index - 1] ?? 0n)));
});

test("a subscription ends with its caller, and with the agent", async () => {
  const { events } = node();
  const abort = new AbortController();
  const cancelled = events.subscribe(abort.signal).next();
  const other = events.subscribe(new AbortController().signal).next();
  abort.abort();
  await assert.rejects(cancelled, { name: "AbortError" });
  events.close();
  await assert.rejects(other, UnavailableError);
});
