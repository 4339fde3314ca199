/** One of several that do to a few pods whatever the CRI allows, in no order, and all at once. */
import { existsSync, renameSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { runtime } from "../../../cri-proto/generated/runtime.js";
import type { TestAgent } from "../agent.js";
import type { Random } from "../comparison/random.js";
import { WebSocketClient } from "../websocket-client.js";
import { long } from "../workload.js";
import type { Caller, Tally } from "./caller.js";
import { otherImage, type PodPlan, randomContainer, randomPod } from "./specs.js";

const { ContainerState } = runtime.v1;
const slots = 4;

/** What all workers share. */
export interface Churn {
  agent: TestAgent;
  /** of the agent that runs now */
  caller: Caller;
  /** the agent was killed, and none has come yet */
  isAway(): boolean;
  tally: Tally;
  volume: string;
  /** an OCI layout of the other image */
  layout: string;
  usersPossible: boolean;
  plans: Map<string, PodPlan>;
  /** containers, and whose they are */
  containers: Map<string, string>;
  /** as they were told the last time, to see that nothing goes backwards */
  ends: Map<string, string>;
  states: Map<string, runtime.v1.ContainerState>;
}

export async function work(churn: Churn, random: Random, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    await random.pick(actions)(churn, random);
    // nobody to call
    while (churn.isAway() && !until.aborted) await sleep(5);
    if (random.chance(0.2)) await sleep(random.whole(0, 30));
  }
}

type Action = (churn: Churn, random: Random) => Promise<unknown>;

const unknown = "0".repeat(64);
const anyOf = (ids: Iterable<string>, random: Random) => {
  const known = [...ids];
  return known.length === 0 || random.chance(0.02) ? unknown : random.pick(known);
};
const anyPod = ({ plans }: Churn, random: Random) => anyOf(plans.keys(), random);
const anyContainer = ({ containers }: Churn, random: Random) => anyOf(containers.keys(), random);

const runPod: Action = async (churn, random) => {
  const plan = randomPod(random, { ...churn, slot: random.whole(0, slots - 1) });
  const request = { config: plan.config, runtime_handler: plan.handler };
  const answer = await churn.caller.call(random, "RunPodSandbox", request);
  if (answer !== undefined) churn.plans.set(answer.pod_sandbox_id, plan);
};

/** What a client does that has lost an answer. */
const list: Action = async (churn, random) => {
  const pods = await churn.caller.call(random, "ListPodSandbox", {});
  const all = await churn.caller.call(random, "ListContainers", {});
  const listed = new Set(pods?.items.map(({ id }) => id));
  if (pods !== undefined) for (const id of churn.plans.keys()) if (!listed.has(id)) churn.plans.delete(id);
  const living = new Set(all?.containers.map(({ id }) => id));
  if (all !== undefined) for (const id of churn.containers.keys()) if (!living.has(id)) churn.containers.delete(id);
  for (const { id, metadata, runtime_handler } of pods?.items ?? []) {
    if (churn.plans.has(id ?? "")) continue;
    churn.plans.set(id ?? "", { handler: runtime_handler ?? "", config: { metadata: metadata ?? {} } });
  }
  for (const { id, pod_sandbox_id } of all?.containers ?? []) churn.containers.set(id ?? "", pod_sandbox_id ?? "");
};

const create: Action = async (churn, random) => {
  const pod = anyPod(churn, random);
  const plan = churn.plans.get(pod);
  if (plan === undefined) return;
  const siblings = [...churn.containers].filter(([, podId]) => podId === pod).map(([id]) => id);
  const config = randomContainer(random, plan, { ...churn, siblings });
  const request = { pod_sandbox_id: pod, config, sandbox_config: plan.config };
  const answer = await churn.caller.call(random, "CreateContainer", request);
  if (answer === undefined) return;
  churn.containers.set(answer.container_id, pod);
  if (random.chance(0.8)) await start(churn, random, answer.container_id);
};

const start = async (churn: Churn, random: Random, container_id = anyContainer(churn, random)) => {
  await churn.caller.call(random, "StartContainer", { container_id });
};

const stop: Action = async (churn, random) => {
  const container_id = anyContainer(churn, random);
  const timeout = long(random.pick([0, 0, 1, 2]));
  const begun = Date.now();
  const answer = await churn.caller.call(random, "StopContainer", { container_id, timeout });
  if (answer !== undefined) await look(churn, random, container_id, { stoppedSince: begun });
};

const remove: Action = async (churn, random) => {
  const container_id = anyContainer(churn, random);
  const answer = await churn.caller.call(random, "RemoveContainer", { container_id });
  if (answer !== undefined) forget(churn, container_id);
};

const stopPod: Action = (churn, random) =>
  churn.caller.call(random, "StopPodSandbox", { pod_sandbox_id: anyPod(churn, random) });

const removePod: Action = async (churn, random) => {
  const pod = anyPod(churn, random);
  const answer = await churn.caller.call(random, "RemovePodSandbox", { pod_sandbox_id: pod });
  if (answer === undefined) return;
  churn.plans.delete(pod);
  for (const [id, podId] of churn.containers) if (podId === pod) forget(churn, id);
  const still = await churn.caller.call(random, "PodSandboxStatus", { pod_sandbox_id: pod }, { patient: true });
  if (still !== undefined) churn.tally.wrong.push(`pod ${pod} is there after it was removed`);
};

function forget({ containers }: Churn, id: string): void {
  containers.delete(id);
}

/** Nothing goes backwards, and an end that was told stays as it was told. */
const look = async (churn: Churn, random: Random, id = anyContainer(churn, random), { stoppedSince = 0 } = {}) => {
  const before = churn.states.get(id) ?? ContainerState.CONTAINER_CREATED;
  const answer = await churn.caller.call(random, "ContainerStatus", { container_id: id, verbose: random.chance(0.2) });
  if (!answer?.status) return;
  const { state, exit_code, finished_at, started_at, reason } = answer.status;
  const name = ContainerState[state ?? 0];
  if ((state ?? 0) < before) churn.tally.wrong.push(`container ${id} is ${name} after ${ContainerState[before]}`);
  // another worker may have started it since
  const runsOn = state === ContainerState.CONTAINER_RUNNING && Number(started_at) / 1e6 < stoppedSince;
  if (runsOn) churn.tally.wrong.push(`container ${id} runs after its stop`);
  churn.states.set(id, Math.max(state ?? 0, churn.states.get(id) ?? 0));
  if (state !== ContainerState.CONTAINER_EXITED || reason === "StartError") return;
  const end = [exit_code, reason, finished_at, started_at].join(" ");
  const told = churn.ends.get(id);
  if (told !== undefined && told !== end) churn.tally.wrong.push(`container ${id} ended with ${end} after ${told}`);
  churn.ends.set(id, end);
};

const execSync: Action = (churn, random) => {
  const cmd = random.pick([
    ["true"],
    ["sh", "-c", "echo out; sleep 0.05"],
    ["sh", "-c", "sleep 800 & sleep 801"],
    ["false"],
  ]);
  const request = { container_id: anyContainer(churn, random), cmd, timeout: long(random.pick([1, 1, 2])) };
  return churn.caller.call(random, "ExecSync", request, { mayTakeLong: true });
};

const stream: Action = async (churn, random) => {
  const container_id = anyContainer(churn, random);
  const wanted = { container_id, stdin: random.chance(0.7), stdout: true, stderr: random.chance(0.5), tty: false };
  const answer = random.chance(0.5)
    ? await churn.caller.call(random, "Exec", { ...wanted, cmd: ["sh", "-c", "echo begun; cat; sleep 802"] })
    : await churn.caller.call(random, "Attach", wanted);
  if (answer === undefined) return;
  // the agent may be killed, and the container end, at any moment of it
  const client = await WebSocketClient.open(answer.url).catch(() => undefined);
  if (client === undefined) return;
  churn.tally.count("streams");
  await sleep(random.whole(0, 60));
  if (wanted.stdin) client.send(0, "x".repeat(random.whole(0, 20_000)));
  await sleep(random.whole(0, 60));
  client.destroy();
};

const rotate: Action = async (churn, random) => {
  const container_id = anyContainer(churn, random);
  const answer = await churn.caller.call(random, "ContainerStatus", { container_id });
  const path = answer?.status?.log_path ?? "";
  if (path === "" || !existsSync(path)) return;
  try {
    renameSync(path, `${path}.${random.whole(0, 3)}`);
  } catch {
    // another worker was first
  }
  await churn.caller.call(random, "ReopenContainerLog", { container_id });
};

const update: Action = (churn, random) => {
  const linux = {
    ...(random.chance(0.6) && { cpu_shares: long(random.pick([2, 50, 2000])) }),
    ...(random.chance(0.4) && { memory_limit_in_bytes: long(random.pick([1, 32, 512]) << 20) }),
  };
  return churn.caller.call(random, "UpdateContainerResources", { container_id: anyContainer(churn, random), linux });
};

const watch: Action = async (churn, random) => {
  const container_id = anyContainer(churn, random);
  const pod_sandbox_id = anyPod(churn, random);
  await random.pick([
    () => churn.caller.call(random, "ContainerStats", { container_id }),
    () => churn.caller.call(random, "ListContainerStats", {}),
    () => churn.caller.call(random, "PodSandboxStats", { pod_sandbox_id }),
    () => churn.caller.call(random, "ListPodSandboxMetrics", {}),
    () => churn.caller.call(random, "PodSandboxStatus", { pod_sandbox_id, verbose: true }),
    () => churn.caller.call(random, "PortForward", { pod_sandbox_id, port: [80] }),
  ])();
};

const image: Action = (churn, random) =>
  random.chance(0.6)
    ? churn.caller.call(random, "ImportImage", { path: churn.layout })
    : churn.caller.call(random, "RemoveImage", { image: { image: otherImage } });

const actions: readonly Action[] = [
  ...Array.from({ length: 8 }, () => runPod),
  ...Array.from({ length: 24 }, () => create),
  ...[start, start, stop, stop, remove, remove, remove, stopPod, removePod, removePod, removePod, list, list],
  ...[execSync, execSync, execSync, stream, stream, rotate, update, look, look, watch, image],
];
