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
  const options = { ownLimits, mayRaise: false, mostOpenFiles: 1_048_576, tell: (text: string) => said.push(text) };
  assert.deepEqual(clampRlimits(asked, options), [
    { type: "RLIMIT_NOFILE", soft: 4096, hard: 4096 },
    { type: "RLIMIT_CORE", soft: 0, hard: 1000 },
  ]);
  assert.equal(said.length, 1);
  assert.match(said[0] ?? "", /RLIMIT_NOFILE of containers is at most 4096, not 65536/);
});

test("with it they are as they are written", () => {
  const asked = [{ type: "RLIMIT_NOFILE", soft: 8192, hard: 65536 }];
  const options = { ownLimits, mayRaise: true, mostOpenFiles: 1_048_576 };
  assert.deepEqual(clampRlimits(asked, { ...options, tell: assert.fail }), asked);
  // the kernel refuses more open files than this to everybody
  const said: string[] = [];
  const unlimited = [{ type: "RLIMIT_NOFILE", soft: 1024, hard: 2 ** 64 }];
  assert.deepEqual(clampRlimits(unlimited, { ...options, tell: (text) => said.push(text) }), [
    { type: "RLIMIT_NOFILE", soft: 1024, hard: 1_048_576 },
  ]);
  assert.deepEqual(said, ["RLIMIT_NOFILE of containers is at most 1048576, not unlimited: fs.nr_open allows no more"]);
});
