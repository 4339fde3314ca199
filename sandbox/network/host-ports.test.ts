import assert from "node:assert/strict";
import { test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";
import { checkPortMappings, HostPorts } from "./host-ports.js";
import type { PortMapping } from "./provider.js";

function mapping(change: Partial<PortMapping> = {}): PortMapping {
  return { protocol: "tcp", containerPort: 80, hostPort: 8080, hostIp: "", ...change };
}

test("mappings without a host port are left out; addresses come in their one spelling", () => {
  assert.deepEqual(checkPortMappings([mapping({ hostPort: 0 }), mapping({ hostIp: "2001:DB8::0001" })]), [
    mapping({ hostIp: "2001:db8::1" }),
  ]);
});

test("a malformed mapping is refused by field", () => {
  const bad: [string, Partial<PortMapping>][] = [
    ["host_port", { hostPort: 65536 }],
    ["host_port", { hostPort: -1 }],
    ["container_port", { containerPort: 0 }],
    ["container_port", { containerPort: 70000 }],
    ["host_ip", { hostIp: "localhost" }],
    ["host_ip", { hostIp: "::1" }],
  ];
  for (const [field, change] of bad) {
    assert.throws(
      () => checkPortMappings([mapping(change)]),
      (error) => error instanceof InvalidArgumentError && error.message.startsWith(`config.port_mappings[0].${field}`),
    );
  }
});

test("one pod cannot map a host port twice, but the same number of another protocol or address", () => {
  const twice: [string, string][] = [
    ["", ""],
    ["", "0.0.0.0"],
    ["::", ""],
    ["127.0.0.1", "127.0.0.1"],
    ["fd00::1", "FD00:0::1"],
  ];
  for (const [one, other] of twice) {
    assert.throws(
      () => checkPortMappings([mapping({ hostIp: one }), mapping({ hostIp: other, containerPort: 81 })]),
      (error) =>
        error instanceof InvalidArgumentError && /port_mappings\[1\]: host port .* is mapped twice/.test(error.message),
    );
  }
  for (const hostIp of ["127.0.0.1", "fd00::1"]) {
    for (const wide of ["", "0.0.0.0", "::"]) {
      assert.equal(checkPortMappings([mapping({ hostIp: wide }), mapping({ hostIp, containerPort: 81 })]).length, 2);
    }
  }
  assert.equal(checkPortMappings([mapping(), mapping({ protocol: "udp" })]).length, 2);
  assert.equal(checkPortMappings([mapping({ hostIp: "127.0.0.1" }), mapping({ hostIp: "127.0.0.2" })]).length, 2);
  assert.equal(checkPortMappings([mapping({ hostIp: "0.0.0.0" }), mapping({ hostIp: "::" })]).length, 2);
});

test("a pod has a port on all addresses and on one; no other pod has it on any, until both are free", () => {
  const ports = new HostPorts();
  const both = [mapping(), mapping({ hostIp: "127.0.0.1", containerPort: 81 })];
  ports.take("one", both);
  ports.take("one", both);
  assert.equal(ports.count, 2);
  for (const hostIp of ["", "127.0.0.1", "127.0.0.2", "fd00::1"]) {
    assert.throws(() => ports.take("two", [mapping({ hostIp })]), /is held by pod sandbox one$/);
  }
  ports.free("one", both);
  assert.equal(ports.count, 0);
  ports.take("two", both);
});

test("a host port that is held is an error that names the pod, and takes nothing", () => {
  const ports = new HostPorts();
  ports.take("one", [mapping({ hostIp: "127.0.0.1" })]);
  const wanted = [mapping({ hostPort: 9090 }), mapping()];
  assert.throws(
    () => ports.take("two", wanted),
    (error) => error instanceof FailedPreconditionError && /tcp\/8080 is held by pod sandbox one$/.test(error.message),
  );
  assert.equal(ports.count, 1);
  ports.take("three", [mapping({ hostIp: "127.0.0.2" })]);
  ports.free("one", [mapping({ hostIp: "127.0.0.1" })]);
  ports.free("three", [mapping({ hostIp: "127.0.0.2" })]);
  ports.take("two", wanted);
  ports.take("two", wanted);
  assert.equal(ports.count, 2);
});
