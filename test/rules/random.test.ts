/** Random requests to a real agent: done, or refused with a field's name; never a fault of the agent's, and nothing left. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { type RandomOptions, randomFrom, randomMessage } from "../../sandbox/spec/random-messages.js";
import { leftCgroups } from "../support/leaks.js";
import { busyboxName, exec, long, podConfig, removePod, runContainer, runPod } from "../support/workload.js";
import { type Code, leavesNothing, placeForRules } from "./support.js";

const place = placeForRules();
const seed = Number(process.env["BERTH_SEED"] ?? 1);
const told: readonly Code[] = ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED", "NOT_FOUND"];
const durationMs = 2_000;

/** The answer; undefined: it was refused, as it may be. */
async function answerOf<T>(what: string, call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    const { code, details } = error as { code?: number; details?: string };
    const name = status[code ?? -1] ?? String(error);
    assert.ok(told.includes(name as Code), `${what}: ${name} ${details}`);
    return undefined;
  }
}

function optionsOf(round: number): RandomOptions {
  const odd = [0, 0, 0.02, 0.2][round % 4] ?? 0;
  return { random: randomFrom(seed * 100_003 + round), nonsense: odd, present: [0.15, 0.3, 0.6][round % 3] ?? 0 };
}

test(`random containers, seed ${seed}`, async (t) => {
  const { agent } = place;
  const { ContainerConfig: Message } = runtime.v1;
  let [made, started, rounds] = [0, 0, 0];
  await leavesNothing(place, async () => {
    const pod = await runPod(agent);
    for (const until = performance.now() + durationMs; performance.now() < until; rounds++) {
      const config = Message.fromObject({
        ...randomMessage("ContainerConfig", optionsOf(rounds)),
        metadata: { name: `r${rounds}` },
        image: { image: busyboxName },
        // logs are the kubelet's to remove
        log_path: "",
      });
      const what = `round ${rounds} of seed ${seed}`;
      const request = { pod_sandbox_id: pod.id, config, sandbox_config: pod.config };
      const created = await answerOf(what, agent.client.call("CreateContainer", request));
      if (created === undefined) continue;
      made++;
      const ran = await answerOf(`${what}: start`, agent.client.call("StartContainer", created));
      started += Number(ran !== undefined);
      await agent.client.call("ContainerStatus", { ...created, verbose: true });
      await agent.client.call("RemoveContainer", created);
    }
    await removePod(agent, pod);
    rmSync(pod.config.log_directory ?? "", { recursive: true });
  });
  t.diagnostic(`${rounds} rounds, ${made} containers made, ${started} started`);
  assert.ok(made > 0);
  const id = await runContainer(agent, place.pod);
  assert.equal((await exec(agent, id, ["true"])).exitCode, 0);
});

test(`random updates, seed ${seed}: applied, or nothing is`, async (t) => {
  const { agent, pod } = place;
  const { LinuxContainerResources: Message } = runtime.v1;
  const id = await runContainer(agent, pod, { linux: { resources: { memory_limit_in_bytes: long(64 << 20) } } });
  const inForce = () =>
    leftCgroups(`${agent.cgroupRoot}/${id}`).flatMap((directory) =>
      readdirSync(directory)
        .filter((name) =>
          /^(memory\.(limit|memsw\.limit|max|swap\.max|high)|cpu\.(shares|weight|cfs|max)|cpuset|pids\.max)/.test(name),
        )
        .map((name) => `${directory}/${name} ${readFileSync(join(directory, name), "utf8")}`),
    );
  let [applied, rounds] = [0, 0];
  for (const until = performance.now() + durationMs; performance.now() < until; rounds++) {
    const linux = Message.fromObject(randomMessage("LinuxContainerResources", optionsOf(rounds)));
    const before = inForce();
    const answer = await answerOf(
      `round ${rounds} of seed ${seed}`,
      agent.client.call("UpdateContainerResources", { container_id: id, linux }),
    );
    if (answer === undefined) assert.deepEqual(inForce(), before, `round ${rounds} of seed ${seed}`);
    else applied++;
  }
  t.diagnostic(`${rounds} rounds, ${applied} applied`);
  assert.ok(applied > 0);
  assert.equal((await exec(agent, id, ["true"])).exitCode, 0);
});

test(`random pods, seed ${seed}`, async (t) => {
  const { agent } = place;
  const { PodSandboxConfig: Message } = runtime.v1;
  let [made, rounds] = [0, 0];
  await leavesNothing(place, async () => {
    for (const until = performance.now() + durationMs; performance.now() < until; rounds++) {
      const random = randomMessage("PodSandboxConfig", optionsOf(rounds)) as { linux?: object };
      const config = Message.fromObject({
        ...random,
        metadata: { name: `r${rounds}`, namespace: "test", uid: randomBytes(8).toString("hex") },
        // what would be the machine's and not the agent's
        linux: { ...random.linux, cgroup_parent: "" },
        log_directory: "",
        port_mappings: [],
      });
      const answer = await answerOf(`round ${rounds} of seed ${seed}`, agent.client.call("RunPodSandbox", { config }));
      if (answer === undefined) continue;
      made++;
      await agent.client.call("PodSandboxStatus", { ...answer, verbose: true });
      await removePod(agent, { id: answer.pod_sandbox_id, config });
    }
  });
  t.diagnostic(`${rounds} rounds, ${made} pods made`);
  assert.ok(made > 0);
  await removePod(agent, await runPod(agent, podConfig(agent)));
});
