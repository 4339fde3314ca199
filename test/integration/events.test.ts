/** GetContainerEvents: what the kubelet's evented PLEG lives on. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  ContainerState,
  createContainer,
  hostPidOf,
  importBusybox,
  long,
  PodSandboxState,
  removePod,
  runContainer,
  runPod,
  waitExited,
} from "../support/workload.js";

type Event = runtime.v1.ContainerEventResponse;
const { ContainerEventType } = runtime.v1;
const patienceMs = 20_000;

/** Takes events until `done`; then it cancels. */
function listen(agent: TestAgent, done: (events: readonly Event[]) => boolean): Promise<Event[]> {
  const events: Event[] = [];
  const take = async () => {
    for await (const event of agent.client.stream("GetContainerEvents", {})) {
      events.push(event as Event);
      if (done(events)) return events;
    }
    return events;
  };
  return Promise.race([
    take(),
    new Promise<never>((_, reject) => {
      setTimeout(() => reject(new Error(`too few events: ${events.map(named).join(", ")}`)), patienceMs).unref();
    }),
  ]);
}

function named({ container_id, container_event_type }: Event): string {
  return `${container_id.slice(0, 6)} ${ContainerEventType[container_event_type]?.split("_")[1]}`;
}

const has = (events: readonly Event[], id: string, type: runtime.v1.ContainerEventType) =>
  events.some((event) => event.container_id === id && event.container_event_type === type);

describe("GetContainerEvents", () => {
  let agent: TestAgent;
  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
  });
  after(() => agent.stop());

  it("tells all its subscribers of a pod's whole life, once and in order, with statuses", async () => {
    const last: { podId?: string } = {};
    const done = (events: readonly Event[]) =>
      has(events, last.podId ?? "", ContainerEventType.CONTAINER_DELETED_EVENT);
    const subscribers = [1, 2, 3].map(() => listen(agent, done));
    const pod = await runPod(agent, { labels: { app: "x" } });
    last.podId = pod.id;
    const id = await runContainer(agent, pod, { labels: { tier: "y" } });
    await agent.client.call("StopContainer", { container_id: id, timeout: long(0) });
    await agent.client.call("RemoveContainer", { container_id: id });
    await removePod(agent, pod);
    const [first = [], ...others] = await Promise.all(subscribers);
    const [p, c] = [pod.id.slice(0, 6), id.slice(0, 6)];
    const expected = [`${p} CREATED`, `${p} STARTED`, `${c} CREATED`, `${c} STARTED`, `${c} STOPPED`, `${c} DELETED`];
    assert.deepEqual(first.map(named), [...expected, `${p} STOPPED`, `${p} DELETED`]);
    for (const other of others) assert.deepEqual(other, first);
    const { SANDBOX_READY, SANDBOX_NOTREADY } = PodSandboxState;
    assert.deepEqual(
      first.map(({ pod_sandbox_status }) => pod_sandbox_status?.state),
      [...Array(6).fill(SANDBOX_READY), SANDBOX_NOTREADY, SANDBOX_NOTREADY],
    );
    assert.ok(first.every(({ pod_sandbox_status: status }) => status?.metadata?.uid === pod.config.metadata?.uid));
    assert.ok(first[1]?.pod_sandbox_status?.network?.ip);
    const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = ContainerState;
    assert.deepEqual(
      first.map(({ containers_statuses }) => containers_statuses.map(({ state }) => state)),
      [[], [], [CONTAINER_CREATED], [CONTAINER_RUNNING], [CONTAINER_EXITED], [], [], []],
    );
    assert.deepEqual(first[4]?.containers_statuses[0]?.exit_code, 137);
    assert.deepEqual(first[3]?.containers_statuses[0]?.labels, { tier: "y" });
    const times = first.map(({ created_at }) => BigInt(String(created_at)));
    assert.ok(times.every((time, index) => index === 0 || time > (times[index - 1] ?? 0n)));
  });

  it("loses and doubles nothing of containers that end at once", async () => {
    const count = 12;
    const ends = (events: readonly Event[]) =>
      events.filter(({ container_event_type }) => container_event_type === ContainerEventType.CONTAINER_DELETED_EVENT);
    const listening = listen(agent, (events) => ends(events).length === count + 1);
    const pod = await runPod(agent);
    const run = async () => {
      const id = await runContainer(agent, pod, { command: ["true"] });
      await agent.client.call("RemoveContainer", { container_id: id });
      return id;
    };
    const ids = await Promise.all(Array.from({ length: count }, run));
    await removePod(agent, pod);
    const events = await listening;
    for (const id of [...ids, pod.id]) {
      const own = events.filter(({ container_id }) => container_id === id).map((event) => named(event).slice(7));
      assert.deepEqual(own, ["CREATED", "STARTED", "STOPPED", "DELETED"]);
    }
    assert.equal(events.length, 4 * (count + 1));
  });

  it("tells each once of what is removed while it runs", async () => {
    const last: { podId?: string } = {};
    const listening = listen(agent, (events) =>
      has(events, last.podId ?? "", ContainerEventType.CONTAINER_DELETED_EVENT),
    );
    const pod = await runPod(agent);
    const running = await runContainer(agent, pod);
    const created = await createContainer(agent, pod);
    const remove = () => agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
    await Promise.all([remove(), remove(), remove()]);
    // what comes before this one has come
    const next = await runPod(agent);
    last.podId = next.id;
    await removePod(agent, next);
    const events = await listening;
    const typesOf = (id: string) =>
      events.filter((event) => event.container_id === id).map((one) => named(one).slice(7));
    assert.deepEqual(typesOf(running), ["CREATED", "STARTED", "STOPPED", "DELETED"]);
    assert.deepEqual(typesOf(created), ["CREATED", "STOPPED", "DELETED"]);
    assert.deepEqual(typesOf(pod.id), ["CREATED", "STARTED", "STOPPED", "DELETED"]);
    assert.equal(events.length, 11 + 4);
  });

  it("tells of the end of what is removed while its pod ends", async () => {
    const last: { podId?: string } = {};
    const listening = listen(agent, (events) =>
      has(events, last.podId ?? "", ContainerEventType.CONTAINER_DELETED_EVENT),
    );
    const ids: string[] = [];
    const rounds = 12;
    for (let round = 0; round < rounds; round++) {
      const pod = await runPod(agent);
      const created = await Promise.all([1, 2, 3, 4].map(() => createContainer(agent, pod)));
      const calls = [agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id })];
      for (const container_id of created) {
        calls.push(agent.client.call("RemoveContainer", { container_id }));
        // one of them comes when the monitor has gone, and the stop has not told of its containers' ends
        await sleep((round % 6) / 2);
      }
      await Promise.all(calls);
      if (round === rounds - 1) last.podId = pod.id;
      await removePod(agent, pod);
      ids.push(...created);
    }
    const events = await listening;
    for (const id of ids) {
      const own = events.filter(({ container_id }) => container_id === id).map((event) => named(event).slice(7));
      assert.deepEqual(own, ["CREATED", "STOPPED", "DELETED"]);
    }
  });

  it("tells nothing again after the agent was killed: what ended meanwhile is in the lists", async () => {
    const pod = await runPod(agent);
    const id = await runContainer(agent, pod);
    const init = await hostPidOf(agent, id);
    await agent.kill9();
    process.kill(init, "SIGKILL");
    await agent.restart();
    const listening = listen(agent, (events) => has(events, pod.id, ContainerEventType.CONTAINER_DELETED_EVENT));
    assert.equal((await waitExited(agent, id)).exit_code, 137);
    await removePod(agent, pod);
    const [p, c] = [pod.id.slice(0, 6), id.slice(0, 6)];
    // the end was recorded before anybody could subscribe
    assert.deepEqual((await listening).map(named), [`${p} STOPPED`, `${c} DELETED`, `${p} DELETED`]);
  });

  it("ends when the agent does, which waits for no subscriber", async () => {
    const pod = await runPod(agent);
    const listening = listen(agent, () => false);
    const ended = assert.rejects(listening, { code: 14 });
    const id = await runContainer(agent, pod);
    const begun = Date.now();
    assert.equal(await agent.terminate(), 0);
    await ended;
    assert.ok(Date.now() - begun < 4_500, "the agent waited until the calls in flight had their time");
    await agent.restart();
    const again = listen(agent, (events) => has(events, id, ContainerEventType.CONTAINER_STOPPED_EVENT));
    await agent.client.call("StopContainer", { container_id: id, timeout: long(0) });
    assert.deepEqual((await again).map(named), [`${id.slice(0, 6)} STOPPED`]);
    await removePod(agent, pod);
  });
});
