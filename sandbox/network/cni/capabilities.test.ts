import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../../errors.js";
import type { NetworkedPod } from "../provider.js";
import { argsOf, capabilityArgsOf } from "./capabilities.js";

const pod = (annotations: Record<string, string> = {}): NetworkedPod => ({
  name: "web",
  namespace: "shop",
  uid: "u-1",
  annotations,
  dns: { servers: [], searches: [], options: [] },
  cgroupPath: "",
  netnsPath: "/run/netns/berth-x",
});

test("CNI_ARGS name the pod as Kubernetes' runtimes do", () => {
  assert.deepEqual(Object.fromEntries(argsOf("id", pod())), {
    IgnoreUnknown: "1",
    K8S_POD_NAMESPACE: "shop",
    K8S_POD_NAME: "web",
    K8S_POD_INFRA_CONTAINER_ID: "id",
    K8S_POD_UID: "u-1",
  });
});

for (const odd of ["web;K8S_POD_NAMESPACE=kube-system", "a=b", "a\0b"]) {
  test(`a pod of the name ${JSON.stringify(odd)} tells plugins nothing of its own making`, () => {
    assert.throws(
      () => argsOf("id", { ...pod(), name: odd }),
      (error) => error instanceof InvalidArgumentError && /config\.metadata\.name/.test(error.message),
    );
  });
}

test("ports, bandwidth, DNS and the pod's cgroup are there when the pod has them", () => {
  assert.deepEqual(capabilityArgsOf(pod(), []), { "io.kubernetes.cri.pod-annotations": {} });
  const annotations = { "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1.5Gi" };
  const dns = { servers: ["10.96.0.10"], searches: ["svc.cluster.local"], options: [] };
  const mapping = { protocol: "udp" as const, containerPort: 53, hostPort: 5353, hostIp: "127.0.0.1" };
  const args = capabilityArgsOf({ ...pod(annotations), dns, cgroupPath: "/kubepods/podx" }, [mapping]);
  assert.deepEqual(args.portMappings, [{ hostPort: 5353, containerPort: 53, protocol: "udp", hostIP: "127.0.0.1" }]);
  assert.deepEqual(args.bandwidth, {
    ingressRate: 10_000_000,
    ingressBurst: 2 ** 31 - 1,
    egressRate: 1.5 * 2 ** 30,
    egressBurst: 2 ** 31 - 1,
  });
  assert.deepEqual([args.dns, args.cgroupPath], [dns, "/kubepods/podx"]);
});

test("a port on one address comes before the same on all, so that plugins lead it by its own rule", () => {
  const mapping = (hostIp: string) => ({ protocol: "tcp" as const, containerPort: 80, hostPort: 8080, hostIp });
  const { portMappings } = capabilityArgsOf(pod(), ["", "127.0.0.1", "::1"].map(mapping));
  assert.deepEqual(
    (portMappings as { hostIP: string }[]).map(({ hostIP }) => hostIP),
    ["127.0.0.1", "::1", ""],
  );
});

test("bandwidths in all the ways that Kubernetes reads quantities", () => {
  const rates = {
    "1e7": 1e7,
    "10E6": 1e7,
    "+.5M": 5e5,
    "5.k": 5e3,
    "2Ki": 2048,
    "1500000500m": 1500001,
    "1P": 1e15,
    "0.001E": 1e15,
  };
  for (const [text, rate] of Object.entries(rates)) {
    const { bandwidth } = capabilityArgsOf(pod({ "kubernetes.io/egress-bandwidth": text }), []);
    assert.equal((bandwidth as { egressRate: number }).egressRate, rate, text);
  }
});

for (const text of [
  "",
  "fast",
  "-1M",
  "999",
  "2P",
  "10 M",
  "10MB",
  "1K",
  "1ki",
  "e7",
  ".",
  "1e7M",
  "1e2",
  "0x10M",
  "1E",
]) {
  test(`a bandwidth of ${JSON.stringify(text)} is refused`, () => {
    assert.throws(
      () => capabilityArgsOf(pod({ "kubernetes.io/egress-bandwidth": text }), []),
      (error) => error instanceof InvalidArgumentError && /egress-bandwidth/.test(error.message),
    );
  });
}
