import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { KeptListener } from "./kept-listener.js";

const base = mkdtempSync(join(tmpdir(), "berth-kept-"));
after(() => rmSync(base, { recursive: true }));
const path = join(base, "s");

async function listener(): Promise<{ kept: KeptListener; events: string[] }> {
  const events: string[] = [];
  const kept = new KeptListener({
    path,
    group: 7,
    onConnection: (connection) => connection.end("hello").on("error", () => undefined),
    onRestored: () => events.push("restored"),
    onLost: (why) => events.push(`lost: ${why}`),
    everyMs: 20,
  });
  await kept.listen();
  return { kept, events };
}
const answer = async (): Promise<string> => {
  const socket = createConnection(path);
  const [data] = await once(socket, "data");
  return String(data);
};
const modeOf = () => {
  const { mode, gid } = statSync(path);
  return `${(mode & 0o777).toString(8)} ${gid}`;
};

test("a socket that is deleted is made again, for the same people, and is gone in the end", async () => {
  const { kept, events } = await listener();
  assert.deepEqual([await answer(), modeOf()], ["hello", "660 7"]);
  for (let i = 1; i <= 3; i++) {
    rmSync(path);
    while (events.length < i) await sleep(5);
    assert.deepEqual([await answer(), modeOf()], ["hello", "660 7"]);
  }
  assert.deepEqual(events, ["restored", "restored", "restored"]);
  kept.close();
  await sleep(50);
  assert.equal(statSync(path, { throwIfNoEntry: false }), undefined);
});

test("what has taken its place is left alone and told of once, until it goes", async () => {
  const { kept, events } = await listener();
  rmSync(path);
  writeFileSync(path, "somebody's");
  await sleep(100);
  assert.deepEqual(events, ["lost: something else has its place"]);
  rmSync(path);
  while (events.length < 2) await sleep(5);
  assert.equal(events[1], "restored");
  assert.equal(await answer(), "hello");
  kept.close();
});
