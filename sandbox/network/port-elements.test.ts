import assert from "node:assert/strict";
import { test } from "node:test";
import { portElements, toBytes } from "./port-elements.js";

test("a port leads to every address of the pod, a bound one to the address of its family", () => {
  const elements = portElements({
    addresses: ["10.88.0.5", "fd00::5"],
    portMappings: [
      { protocol: "tcp", hostPort: 8080, containerPort: 80, hostIp: "" },
      { protocol: "udp", hostPort: 53, containerPort: 5353, hostIp: "127.0.0.1" },
      { protocol: "sctp", hostPort: 9, containerPort: 9, hostIp: "::" },
    ],
  });
  assert.deepEqual(
    elements.map(({ set, key, value }) => `${set} ${key.join(" ")} ${value ?? ""}`.trim()),
    [
      "any_address4 tcp 8080 10.88.0.5",
      "any_port4 tcp 8080 80",
      "hairpin4 10.88.0.5 tcp 80",
      "bound_address4 127.0.0.1 udp 53 10.88.0.5",
      "bound_port4 127.0.0.1 udp 53 5353",
      "hairpin4 10.88.0.5 udp 5353",
      "any_address6 tcp 8080 fd00::5",
      "any_port6 tcp 8080 80",
      "hairpin6 fd00::5 tcp 80",
      "any_address6 sctp 9 fd00::5",
      "any_port6 sctp 9 9",
      "hairpin6 fd00::5 sctp 9",
    ],
  );
});

test("two ports that lead to one are told once where they lead", () => {
  const elements = portElements({
    addresses: ["10.88.0.5"],
    portMappings: [
      { protocol: "tcp", hostPort: 8080, containerPort: 80, hostIp: "" },
      { protocol: "tcp", hostPort: 8080, containerPort: 80, hostIp: "127.0.0.1" },
      { protocol: "tcp", hostPort: 8081, containerPort: 80, hostIp: "" },
    ],
  });
  assert.equal(elements.length, 7);
  assert.equal(elements.filter(({ set }) => set === "hairpin4").length, 1);
});

test("each part of a key is filled up to four bytes, a value is not", () => {
  const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString("hex");
  const [address, port, hairpin] = portElements({
    addresses: ["fd00::5"],
    portMappings: [{ protocol: "udp", hostPort: 8080, containerPort: 53, hostIp: "fd01::1" }],
  }).map(toBytes);
  const host = "fd010000000000000000000000000001";
  const pod = "fd000000000000000000000000000005";
  assert.deepEqual(
    [address?.set, hex(address?.key), hex(address?.value)],
    ["bound_address6", `${host}110000001f900000`, pod],
  );
  assert.deepEqual([port?.set, hex(port?.key), hex(port?.value)], ["bound_port6", `${host}110000001f900000`, "0035"]);
  assert.deepEqual(
    [hairpin?.set, hex(hairpin?.key), hairpin?.value],
    ["hairpin6", `${pod}1100000000350000`, undefined],
  );
});
