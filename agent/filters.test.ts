import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime } from "../cri-proto/generated/runtime.js";
import type { Container, ContainerPhase } from "../sandbox/container.js";
import type { Pod, PodPhase } from "../sandbox/pod.js";
import { matchesContainer, matchesPod } from "./filters.js";

const { ContainerFilter, ContainerState, PodSandboxFilter, PodSandboxState } = runtime.v1;

// the filters look at nothing else
const pod = (id: string, phase: PodPhase, labels = {}) =>
  ({ record: { id, phase }, config: { labels } }) as unknown as Pod;
const container = (id: string, podId: string, phase: ContainerPhase, labels = {}) =>
  ({ record: { id, podId, phase }, config: { labels } }) as unknown as Container;

/** as it comes from the wire: what was left out is not there */
const podFilter = (filter: runtime.v1.IPodSandboxFilter) =>
  PodSandboxFilter.decode(PodSandboxFilter.encode(filter).finish());
const containerFilter = (filter: runtime.v1.IContainerFilter) =>
  ContainerFilter.decode(ContainerFilter.encode(filter).finish());

test("no filter and an empty one take every pod", () => {
  for (const phase of ["ready", "stopped"] as const) {
    assert.ok(matchesPod(pod("aa", phase), null));
    assert.ok(matchesPod(pod("aa", phase), podFilter({})));
  }
});

test("pods by the beginning of their id", () => {
  assert.ok(matchesPod(pod("abc", "ready"), podFilter({ id: "ab" })));
  assert.ok(!matchesPod(pod("abc", "ready"), podFilter({ id: "bc" })));
});

test("pods by state; READY is the number 0, which is not on the wire", () => {
  const ready = podFilter({ state: { state: PodSandboxState.SANDBOX_READY } });
  const notReady = podFilter({ state: { state: PodSandboxState.SANDBOX_NOTREADY } });
  assert.ok(matchesPod(pod("a", "ready"), ready));
  assert.ok(!matchesPod(pod("a", "ready"), notReady));
  for (const phase of ["stopping", "stopped"] as const) {
    assert.ok(!matchesPod(pod("a", phase), ready));
    assert.ok(matchesPod(pod("a", phase), notReady));
  }
});

test("all labels of the selector must be there", () => {
  const labelled = pod("a", "ready", { app: "web", tier: "front" });
  assert.ok(matchesPod(labelled, podFilter({ label_selector: { app: "web" } })));
  assert.ok(matchesPod(labelled, podFilter({ label_selector: { app: "web", tier: "front" } })));
  assert.ok(!matchesPod(labelled, podFilter({ label_selector: { app: "web", tier: "back" } })));
  assert.ok(!matchesPod(labelled, podFilter({ label_selector: { other: "" } })));
});

test("containers by everything at once", () => {
  const running = container("c1", "p1", "running", { app: "web" });
  const all = { id: "c", pod_sandbox_id: "p", label_selector: { app: "web" } };
  const state = (value: runtime.v1.ContainerState) => ({ state: { state: value } });
  assert.ok(matchesContainer(running, containerFilter({ ...all, ...state(ContainerState.CONTAINER_RUNNING) })));
  assert.ok(!matchesContainer(running, containerFilter({ ...all, ...state(ContainerState.CONTAINER_CREATED) })));
  assert.ok(!matchesContainer(running, containerFilter({ ...all, id: "x" })));
  assert.ok(!matchesContainer(running, containerFilter({ ...all, pod_sandbox_id: "x" })));
  assert.ok(!matchesContainer(running, containerFilter({ ...all, label_selector: { app: "db" } })));
});

test("a filter of statistics has no state", () => {
  const { ContainerStatsFilter } = runtime.v1;
  const filter = ContainerStatsFilter.decode(ContainerStatsFilter.encode({ id: "c1" }).finish());
  assert.ok(matchesContainer(container("c1", "p1", "exited"), filter));
  assert.ok(!matchesContainer(container("c2", "p1", "exited"), filter));
});
