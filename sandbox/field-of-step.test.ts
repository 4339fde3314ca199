import assert from "node:assert/strict";
import { constants } from "node:os";
import { test } from "node:test";
import { fieldsOfContainer, fieldsOfPod } from "./field-of-step.js";

test("the field of a container's request that a step of its init was about", () => {
  const field = fieldsOfContainer({
    command: ["/program"],
    args: ["-v"],
    working_dir: "/work",
    mounts: [{ container_path: "/m/" }, { container_path: "//n/../m" }, { container_path: `/${"long/".repeat(200)}x` }],
    devices: [{ host_path: "/dev/null" }, { container_path: "/dev/x", host_path: "/dev/zero" }],
    linux: { security_context: { masked_paths: ["/a", "/b"], readonly_paths: ["/r"], seccomp_profile_path: "x" } },
  });
  const context = "config.linux.security_context";
  for (const [step, subject, expected] of [
    ["mount", "/m", "config.mounts[1].container_path"],
    ["mount", `/${"long/".repeat(200)}`.slice(0, 511), "config.mounts[2].container_path"],
    ["mount", "/etc/hosts", undefined],
    ["mknod", "/dev/x", "config.devices[1].container_path"],
    ["check", "/dev/null", "config.devices[0].container_path"],
    ["mask", "/b", `${context}.masked_paths[1]`],
    ["make read-only", "/r", `${context}.readonly_paths[0]`],
    ["enter the working directory", "/work", "config.working_dir"],
    ["execve", "/program", "config.command"],
    ["execve", "-v", "config.args"],
    ["execve", "/entrypoint", undefined],
    ["load the seccomp filter", "", `${context}.seccomp_profile_path`],
    ["clone3", "", undefined],
  ] as const) {
    assert.equal(field(step, subject, 22), expected, `${step} ${subject}`);
  }
  assert.equal(field("execve", "/program", constants.errno.E2BIG), "config.args, config.envs");
});

test("what the request does not say has no field", () => {
  const field = fieldsOfContainer({});
  for (const step of ["mount", "mknod", "check", "mask", "enter the working directory", "execve"]) {
    assert.equal(field(step, "/x", 22), undefined, step);
  }
});

test("a pod's: its host name, and sysctls however they are separated", () => {
  const field = fieldsOfPod({ linux: { sysctls: { "net.core.somaxconn": "1", "net/ipv4/conf/eth0.1/tag": "1" } } });
  assert.equal(field("sethostname", "x", 22), "config.hostname");
  assert.equal(field("set the sysctl", "net/core/somaxconn", 22), 'config.linux.sysctls["net.core.somaxconn"]');
  assert.equal(
    field("set the sysctl", "net/ipv4/conf/eth0.1/tag", 22),
    'config.linux.sysctls["net/ipv4/conf/eth0.1/tag"]',
  );
  assert.equal(field("set the sysctl", "net/ipv4/ping_group_range", 22), undefined);
  assert.equal(field("open", "/proc/sys", 22), undefined);
});
