import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError, NotFoundError } from "./errors.js";
import { newId, Pods } from "./index-of-ids.js";
import type { Pod, PodRecord } from "./pod.js";

function pod(id: string): Pod {
  return { record: { id } as PodRecord, config: {}, monitorPid: 0 };
}

test("a pod is found by its id and by any beginning that only it has", () => {
  const pods = new Pods();
  const [a, b] = [pod("abc111"), pod("abd222")];
  pods.add(a);
  pods.add(b);
  assert.equal(pods.resolve("abc111"), a);
  assert.equal(pods.resolve("abd"), b);
  assert.equal(pods.find("zzz"), undefined);
  assert.throws(() => pods.resolve("zzz"), NotFoundError);
  assert.throws(() => pods.resolve("ab"), InvalidArgumentError);
  assert.throws(() => pods.find(""), InvalidArgumentError);
});

test("an id that begins another one is still found", () => {
  const pods = new Pods();
  pods.add(pod("ab"));
  pods.add(pod("abc"));
  assert.equal(pods.resolve("ab").record.id, "ab");
});

test("ids are 64 hexadecimal digits", () => {
  assert.match(newId(), /^[0-9a-f]{64}$/);
});
