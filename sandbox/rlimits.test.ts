import assert from "node:assert/strict";
import { test } from "node:test";
import { clampRlimits } from "./rlimits.js";

const ownLimits = `Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 4096                 files
Max core file size        0                    unlimited            bytes
`;

test("without CAP_SYS_RESOURCE hard limits end at the agent's own, and that is said", () => {
  const said: string[] = [];
  const asked = [
    { type: "RLIMIT_NOFILE", soft: 8192, hard: 65536 },
    { type: "RLIMIT_CORE", soft: 0, hard: 1000 },
  ];
  assert.deepEqual(clampRlimits(asked, { ownLimits, mayRaise: false, tell: (sentence) => said.push(sentence) }), [
    { type: "RLIMIT_NOFILE", soft: 4096, hard: 4096 },
    { type: "RLIMIT_CORE", soft: 0, hard: 1000 },
  ]);
  assert.equal(said.length, 1);
  assert.match(said[0] ?? "", /RLIMIT_NOFILE of containers is at most 4096, not 65536/);
});

test("with it they are as they are written", () => {
  const asked = [{ type: "RLIMIT_NOFILE", soft: 8192, hard: 65536 }];
  assert.deepEqual(clampRlimits(asked, { ownLimits, mayRaise: true, tell: assert.fail }), asked);
});
