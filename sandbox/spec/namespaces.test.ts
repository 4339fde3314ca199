import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError, UnimplementedError } from "../errors.js";
import { checkPodNamespaces, namespaces, pidSharing } from "./namespaces.js";
import { podConfig, withSecurity } from "./spec-fixtures.js";

const container = (options: Record<string, unknown>) => withSecurity({ namespace_options: options });
const pod = (options: Record<string, unknown>) =>
  podConfig({ linux: { security_context: { namespace_options: options } } });

test("whose processes a container sees", () => {
  assert.equal(pidSharing(container({}), pod({})), "pod");
  assert.equal(pidSharing(container({ pid: "CONTAINER" }), pod({ pid: "NODE" })), "container");
  assert.equal(pidSharing(container({ pid: "POD" }), pod({ pid: "NODE" })), "host");
  assert.equal(pidSharing(container({ pid: "NODE" }), pod({ pid: "NODE" })), "host");
  assert.equal(pidSharing(container({ pid: "TARGET", target_id: "x" }), pod({})), "target");
  assert.throws(() => pidSharing(container({ pid: "NODE" }), pod({})), /namespace_options\.pid: NODE/);
  assert.throws(() => pidSharing(container({ pid: "TARGET" }), pod({})), /namespace_options\.target_id/);
  assert.throws(() => pidSharing(container({ pid: 9 }), pod({})), InvalidArgumentError);
});

test("network and IPC are the pod's", () => {
  checkPodNamespaces(container({}), pod({ network: "NODE", ipc: "NODE" }));
  checkPodNamespaces(container({ network: "NODE" }), pod({ network: "NODE" }));
  assert.throws(() => checkPodNamespaces(container({ network: "NODE" }), pod({})), /namespace_options\.network: NODE/);
  assert.throws(() => checkPodNamespaces(container({ ipc: "CONTAINER" }), pod({})), UnimplementedError);
  assert.deepEqual(
    namespaces("container", undefined).map(({ type }) => type),
    ["pid", "mount", "cgroup"],
  );
  assert.deepEqual(
    namespaces("pod", undefined).map(({ type }) => type),
    ["mount", "cgroup"],
  );
  const range = { containerID: 0, hostID: 100_000, size: 10 };
  assert.ok(namespaces("pod", { uids: range, gids: range }).some(({ type }) => type === "user"));
});
