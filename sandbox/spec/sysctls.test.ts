import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { podConfig } from "./spec-fixtures.js";
import { podSysctls } from "./sysctls.js";

const of = (sysctls: Record<string, string>, namespaces: Record<string, string> = {}) =>
  podSysctls(podConfig({ linux: { sysctls, security_context: { namespace_options: namespaces } } }));

const defaults = { "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647" };

test("a pod with its own network has the defaults, and the request's over them", () => {
  assert.deepEqual(podSysctls(podConfig()), defaults);
  assert.deepEqual(of({ "net.ipv4.ip_unprivileged_port_start": "1024", "kernel.shm_rmid_forced": "1" }), {
    ...defaults,
    "net.ipv4.ip_unprivileged_port_start": "1024",
    "kernel.shm_rmid_forced": "1",
  });
  assert.deepEqual(of({}, { network: "NODE" }), {});
});

test("groups that may ping are the pod's in its own user namespace, and the host's numbers are written", () => {
  const pingGroups = "net.ipv4.ping_group_range";
  const inNamespace = (sysctls: Record<string, string>, host_id = 100_000, length = 65_536) => {
    const ids = [{ container_id: 0, host_id, length }];
    const namespace_options = { userns_options: { uids: ids, gids: ids } };
    return podSysctls(podConfig({ linux: { sysctls, security_context: { namespace_options } } }))[pingGroups];
  };
  assert.equal(inNamespace({}), "100000 165535");
  assert.equal(inNamespace({}, 2 ** 31 - 10), "2147483638 2147483647");
  assert.equal(inNamespace({}, 2 ** 31), "1 0");
  assert.equal(inNamespace({ [pingGroups]: "5\t10" }), "100005 100010");
  assert.equal(inNamespace({ [pingGroups]: "1 0" }), "1 0");
  for (const value of ["0 65536", "70000 80000"]) {
    assert.throws(() => inNamespace({ [pingGroups]: value }), /ping_group_range"\]: .* not all groups/);
  }
});

test("slashes and dots", () => {
  assert.equal(of({ "net/ipv4/conf/eth0.1/arp_filter": "1" })["net.ipv4.conf.eth0/1.arp_filter"], "1");
  assert.equal(of({ "net.ipv4.conf.eth0/1.arp_filter": "1" })["net.ipv4.conf.eth0/1.arp_filter"], "1");
  assert.equal(of({ "fs.mqueue.msg_max": "100" })["fs.mqueue.msg_max"], "100");
  assert.equal(of({ "net.ipv4.tcp_rmem": "4096 87380 6291456" })["net.ipv4.tcp_rmem"], "4096 87380 6291456");
});

test("what is not a namespace's, and what tries to be two settings, is refused by name", () => {
  const bad: [Record<string, string>, Record<string, string>][] = [
    [{ "kernel.core_pattern": "|/x" }, {}],
    [{ "kernel.panic": "1" }, {}],
    [{ "kernel.hostname": "x" }, {}],
    [{ "vm.swappiness": "1" }, {}],
    [{ "kernel.shm_rmid_forced": "1+kernel.core_pattern=|/x" }, {}],
    [{ "kernel.shm_rmid_forced": "1\nkernel.core_pattern=x" }, {}],
    [{ "kernel.shm_rmid_forced": "1 kernel.core_pattern=x" }, {}],
    [{ "kernel.shm_rmid_forced=1+kernel.core_pattern": "x" }, {}],
    [{ "kernel.shm rmid": "1" }, {}],
    [{ "net../../kernel/core_pattern": "x" }, {}],
    [{ "net/../kernel/core_pattern": "x" }, {}],
    [{ "net/ipv4/..": "x" }, {}],
    [{ "net.": "x" }, {}],
    [{ "net.ipv4.//.x": "x" }, {}],
    [{ "": "x" }, {}],
    [{ "net.ipv4.ip_forward": "1" }, { network: "NODE" }],
    [{ "kernel.shmmax": "1" }, { ipc: "NODE" }],
    [{ "fs.mqueue.msg_max": "1" }, { ipc: "NODE" }],
  ];
  for (const [sysctls, namespaces] of bad) {
    const [key = ""] = Object.keys(sysctls);
    assert.throws(
      () => of(sysctls, namespaces),
      (error) =>
        error instanceof InvalidArgumentError &&
        error.message.startsWith(`config.linux.sysctls[${JSON.stringify(key)}]`),
      key,
    );
  }
});
