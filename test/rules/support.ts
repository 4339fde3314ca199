/** Rules as tables: what a request asks for, the code of the answer, a sentence that names the field, and nothing left. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { status } from "@grpc/grpc-js";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { type AgentOptions, startAgent, type TestAgent } from "../support/agent.js";
import { findLeft } from "../support/leaks.js";
import { createContainer, fails, importBusybox, type RunningPod, runPod } from "../support/workload.js";

export type Code = keyof typeof status;

/** What a file of rules works with: an agent with the busybox image, and a pod. */
export interface Place {
  readonly agent: TestAgent;
  readonly pod: RunningPod;
}

/** The rule in our words, what breaks it, and the answer. */
export type Refusal<T> = [rule: string, asked: T | (() => T | Promise<T>), code: Code, sentence: RegExp];

/** @param prepare what the file needs besides, before its first test */
export function placeForRules(prepare: (place: Place) => unknown = () => undefined, options: AgentOptions = {}): Place {
  let agent: TestAgent | undefined;
  let pod: RunningPod | undefined;
  const place: Place = {
    get agent() {
      assert.ok(agent);
      return agent;
    },
    get pod() {
      assert.ok(pod);
      return pod;
    },
  };
  before(async () => {
    agent = await startAgent(options);
    await importBusybox(agent);
    pod = await runPod(agent);
    await prepare(place);
  });
  after(() => agent?.stop());
  return place;
}

/** CreateContainer is refused. */
export function refusedContainers(place: Place, rules: Refusal<runtime.v1.IContainerConfig>[]): void {
  refused(place, rules, (config) => createContainer(place.agent, place.pod, config));
}

/** RunPodSandbox is refused. */
export function refusedPods(place: Place, rules: Refusal<runtime.v1.IPodSandboxConfig>[]): void {
  refused(place, rules, (config) => runPod(place.agent, config));
}

/** The call is refused so, and leaves nothing behind. */
export function refused<T>(place: Place, rules: Refusal<T>[], call: (asked: T) => Promise<unknown>): void {
  for (const [rule, asked, code, sentence] of rules) {
    test(rule, async () => {
      const request = asked instanceof Function ? await asked() : asked;
      await leavesNothing(place, () => fails(call(request), code, sentence));
    });
  }
}

/** Nothing more is there of pods and containers afterwards, and the agent has no more files open. */
export async function leavesNothing({ agent }: Pick<Place, "agent">, run: () => Promise<unknown>): Promise<void> {
  const scope = { ...agent.paths, cgroupRoot: agent.cgroupRoot, bridge: agent.slot.bridge };
  const thereNow = async () => [...(await findLeft(scope)), ...below(agent.paths.logs)];
  const descriptors = () => readdirSync(`/proc/${agent.pid}/fd`).length;
  const [thereBefore, descriptorsBefore] = [await thereNow(), descriptors()];
  await run();
  // the kernel takes some things away a moment later
  for (let tries = 0; ; tries++) {
    const left = (await thereNow()).filter((line) => !thereBefore.includes(line));
    const open = Math.max(descriptors() - descriptorsBefore, 0);
    if (left.length + open === 0) return;
    if (tries > 100) assert.deepEqual({ left, open }, { left: [], open: 0 });
    await sleep(20);
  }
}

function below(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true }).map((path) => `${directory}/${path}`);
}
