/** The CRI's rules for the life of a container, and for the calls about one that is there, or is not. */
import assert from "node:assert/strict";
import { existsSync, renameSync } from "node:fs";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import {
  ContainerState,
  containerStatus,
  createContainer,
  exec,
  fails,
  long,
  runContainer,
  runToEnd,
  sh,
  untilWritten,
} from "../support/workload.js";
import { leavesNothing, placeForRules, type Refusal, refused } from "./support.js";

let created = "";
let running = "";
let ended = "";
const place = placeForRules(async ({ agent, pod }) => {
  created = await createContainer(agent, pod);
  running = await runContainer(agent, pod);
  ended = (await runToEnd(agent, pod, sh("exit 3"))).id;
});
const nobody = "e".repeat(64);
const missing = /^container_id is missing/;
const unknown = /container "e{64}" is not known/;

describe("a container is named, and there", () => {
  for (const name of ["StartContainer", "ContainerStatus", "ReopenContainerLog", "ContainerStats"] as const) {
    refused(
      place,
      [
        [`${name} needs a container`, {}, "INVALID_ARGUMENT", missing],
        [`${name} of one that is not there is an error`, { container_id: nobody }, "NOT_FOUND", unknown],
      ],
      (request) => place.agent.client.call(name, request),
    );
  }
  for (const name of ["StopContainer", "RemoveContainer"] as const) {
    refused(place, [[`${name} needs a container`, {}, "INVALID_ARGUMENT", missing]], (request) =>
      place.agent.client.call(name, request),
    );
    test(`${name} of one that is not there succeeds`, async () => {
      await place.agent.client.call(name, { container_id: nobody });
    });
  }
});

describe("StartContainer", () => {
  refused(
    place,
    [
      ["one that runs is not started", () => ({ container_id: running }), "FAILED_PRECONDITION", /is running/],
      ["one that has ended is not started again", () => ({ container_id: ended }), "FAILED_PRECONDITION", /is exited/],
    ],
    (request) => place.agent.client.call("StartContainer", request),
  );
});

describe("StopContainer", () => {
  refused(
    place,
    [
      [
        "a grace period is not negative",
        () => ({ container_id: running, timeout: long(-1) }),
        "INVALID_ARGUMENT",
        /^timeout: -1 is negative/,
      ],
    ],
    (request) => place.agent.client.call("StopContainer", request),
  );

  test("one that has ended, or never began, is left as it is, as often as it is asked", async () => {
    for (const container_id of [ended, ended, created])
      await place.agent.client.call("StopContainer", { container_id, timeout: long(5) });
    assert.equal((await containerStatus(place.agent, ended)).exit_code, 3);
  });

  test("without a grace period it is killed at once", async () => {
    const id = await runContainer(
      place.agent,
      place.pod,
      sh("trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"),
    );
    await untilWritten(place.agent, id, "ready");
    await place.agent.client.call("StopContainer", { container_id: id });
    assert.equal((await containerStatus(place.agent, id)).exit_code, 137);
  });

  test("after the grace period it is killed, and all that it has started", async () => {
    const id = await runContainer(
      place.agent,
      place.pod,
      sh("trap '' TERM; sleep 1000 & echo ready; while :; do wait; done"),
    );
    await untilWritten(place.agent, id, "ready");
    const begun = Date.now();
    await place.agent.client.call("StopContainer", { container_id: id, timeout: long(1) });
    assert.ok(Date.now() - begun >= 990);
    const status = await containerStatus(place.agent, id);
    assert.deepEqual([status.state, status.exit_code], [ContainerState.CONTAINER_EXITED, 137]);
    assert.ok(Number(String(status.finished_at)) > 0);
  });

  test("the longest grace period there is does not become none", async () => {
    const id = await runContainer(
      place.agent,
      place.pod,
      sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"),
    );
    await untilWritten(place.agent, id, "ready");
    await place.agent.client.call("StopContainer", { container_id: id, timeout: "9223372036854775807" as never });
    assert.equal((await containerStatus(place.agent, id)).exit_code, 5);
  });
});

describe("RemoveContainer", () => {
  test("one that runs is removed by force, and its removal can be repeated", async () => {
    await leavesNothing(place, async () => {
      const container_id = await runContainer(place.agent, place.pod, sh("trap '' TERM; while :; do sleep 1; done"));
      const { log_path } = await containerStatus(place.agent, container_id);
      for (let times = 0; times < 2; times++) await place.agent.client.call("RemoveContainer", { container_id });
      await fails(place.agent.client.call("ContainerStatus", { container_id }), "NOT_FOUND", /container/);
      // the log is the kubelet's to remove
      assert.ok(existsSync(log_path ?? ""));
      renameSync(log_path ?? "", `${place.agent.paths.base}/removed.log`);
    });
  });
});

describe("ContainerStatus", () => {
  test("what has not happened has no time and no code", async () => {
    const status = await containerStatus(place.agent, created);
    assert.deepEqual([status.started_at, status.finished_at, status.exit_code].map(String), ["0", "0", "0"]);
    assert.equal(status.state, ContainerState.CONTAINER_CREATED);
    const now = await containerStatus(place.agent, running);
    assert.ok(Number(String(now.started_at)) > 0);
    assert.equal(String(now.finished_at), "0");
  });

  test("what is only for looking closer is told when it is asked for", async () => {
    const { info } = await place.agent.client.call("ContainerStatus", { container_id: running });
    assert.deepEqual(info, {});
    const more = await place.agent.client.call("ContainerStatus", { container_id: running, verbose: true });
    assert.ok(JSON.parse(more.info["info"] ?? ""));
  });
});

describe("ListContainers", () => {
  test("all that a filter says holds", async () => {
    const id = await createContainer(place.agent, place.pod, { labels: { a: "1", b: "2" } });
    const listed = async (filter: runtime.v1.IContainerFilter) =>
      (await place.agent.client.call("ListContainers", { filter })).containers.map((container) => container.id);
    assert.deepEqual(await listed({ label_selector: { a: "1" } }), [id]);
    assert.deepEqual(await listed({ label_selector: { a: "1", b: "1" } }), []);
    assert.deepEqual(await listed({ id, pod_sandbox_id: nobody }), []);
    assert.deepEqual(await listed({ id, state: { state: ContainerState.CONTAINER_RUNNING } }), []);
    assert.deepEqual(
      await listed({ id, state: { state: ContainerState.CONTAINER_CREATED }, pod_sandbox_id: place.pod.id }),
      [id],
    );
    await place.agent.client.call("RemoveContainer", { container_id: id });
  });
});

describe("ReopenContainerLog", () => {
  test("of one that does not run: an error, and no new file", async () => {
    const { log_path } = await containerStatus(place.agent, ended);
    renameSync(log_path ?? "", `${place.agent.paths.base}/rotated.log`);
    await fails(
      place.agent.client.call("ReopenContainerLog", { container_id: ended }),
      "FAILED_PRECONDITION",
      /container [0-9a-f]+/,
    );
    assert.ok(!existsSync(log_path ?? ""));
  });
});

describe("ExecSync", () => {
  const asked = (more: runtime.v1.IExecSyncRequest) => () => ({ container_id: running, cmd: ["true"], ...more });
  const rules: Refusal<runtime.v1.IExecSyncRequest>[] = [
    ["a container is needed", { cmd: ["true"] }, "INVALID_ARGUMENT", missing],
    ["it is there", { container_id: nobody, cmd: ["true"] }, "NOT_FOUND", unknown],
    [
      "it runs, and is not only created",
      () => asked({ container_id: created })(),
      "FAILED_PRECONDITION",
      /is created, not running/,
    ],
    [
      "it runs, and has not ended",
      () => asked({ container_id: ended })(),
      "FAILED_PRECONDITION",
      /is exited, not running/,
    ],
    ["a command is needed", asked({ cmd: [] }), "INVALID_ARGUMENT", /^cmd is missing/],
    ["the command has a name", asked({ cmd: ["", "x"] }), "INVALID_ARGUMENT", /^cmd is missing/],
    ["an argument has no NUL", asked({ cmd: ["true", "a\0"] }), "INVALID_ARGUMENT", /^cmd: an argument holds a NUL/],
    [
      "the command is there",
      asked({ cmd: ["no-such-program"] }),
      "INVALID_ARGUMENT",
      /^cmd: .*"no-such-program": ENOENT/,
    ],
    [
      "the command can be executed",
      asked({ cmd: ["/etc/passwd"] }),
      "INVALID_ARGUMENT",
      /^cmd: .*"\/etc\/passwd": EACCES/,
    ],
    ["a time-out is not negative", asked({ timeout: long(-1) }), "INVALID_ARGUMENT", /^timeout: -1 is negative/],
    [
      "after the time-out it is an error",
      asked({ cmd: ["sleep", "100"], timeout: long(1) }),
      "DEADLINE_EXCEEDED",
      /"sleep" in container [0-9a-f]+ ran into its timeout of 1 s/,
    ],
    [
      "one argument has 128 KiB at most",
      asked({ cmd: ["echo", "x".repeat(128 << 10)] }),
      "INVALID_ARGUMENT",
      /^cmd: .*E2BIG/,
    ],
  ];
  refused(place, rules, (request) => place.agent.client.call("ExecSync", request));

  test("the command's own code is no error; without a time-out it takes its time", async () => {
    const { exitCode, stdout, stderr } = await exec(
      place.agent,
      running,
      "echo out; echo err >&2; sleep 1.2; exit 7",
      0,
    );
    assert.deepEqual([exitCode, stdout, stderr], [7, "out\n", "err\n"]);
    const request = { container_id: running, cmd: ["true"], timeout: "9223372036854775807" as never };
    assert.equal((await place.agent.client.call("ExecSync", request)).exit_code, 0);
  });
});
