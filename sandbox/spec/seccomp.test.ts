import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { defaultSeccompProfile } from "./default-seccomp-profile.js";
import { seccompChoice } from "./seccomp.js";
import { parseSeccompProfile } from "./seccomp-profile.js";
import { withSecurity } from "./spec-fixtures.js";

const choose = (context: Record<string, unknown>) => seccompChoice(withSecurity(context).linux?.security_context);

test("the profile that is chosen", () => {
  assert.deepEqual(seccompChoice(null), { kind: "unconfined" });
  assert.deepEqual(choose({}), { kind: "unconfined" });
  assert.deepEqual(choose({ seccomp: {} }), { kind: "default" });
  assert.deepEqual(choose({ seccomp: { profile_type: "Unconfined" } }), { kind: "unconfined" });
  assert.deepEqual(choose({ seccomp: { profile_type: "Localhost", localhost_ref: "/p.json" } }), {
    kind: "localhost",
    path: "/p.json",
    field: "config.linux.security_context.seccomp.localhost_ref",
  });
  assert.deepEqual(choose({ privileged: true, seccomp: {} }), { kind: "unconfined" });
  assert.deepEqual(choose({ seccomp_profile_path: "runtime/default" }), { kind: "default" });
  assert.deepEqual(choose({ seccomp_profile_path: "unconfined" }), { kind: "unconfined" });
  assert.deepEqual(choose({ seccomp_profile_path: "localhost//p.json" }), {
    kind: "localhost",
    path: "/p.json",
    field: "config.linux.security_context.seccomp_profile_path",
  });
  assert.deepEqual(choose({ seccomp: { profile_type: "Unconfined" }, seccomp_profile_path: "runtime/default" }), {
    kind: "unconfined",
  });
});

test("profiles that cannot be chosen name their field", () => {
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ seccomp: { localhost_ref: "/p.json" } }, /seccomp\.localhost_ref: it goes with profile_type Localhost/],
    [{ seccomp: { profile_type: "Localhost" } }, /seccomp\.localhost_ref: a path is needed/],
    [
      { seccomp: { profile_type: "Localhost", localhost_ref: "p.json" } },
      /seccomp\.localhost_ref: "p.json" is not absolute/,
    ],
    [{ seccomp: { profile_type: 7 } }, /seccomp\.profile_type: 7/],
    [{ seccomp_profile_path: "default" }, /seccomp_profile_path: "default" is no profile/],
    [{ seccomp_profile_path: "localhost/p" }, /seccomp_profile_path: "p" is not absolute/],
  ];
  for (const [context, message] of bad) assert.throws(() => choose(context), invalid(message));
});

test("the default profile follows the capabilities", () => {
  const plain = defaultSeccompProfile(["CAP_CHOWN"], "x64");
  const [, allowed] = plain.syscalls ?? [];
  assert.equal(plain.defaultAction, "SCMP_ACT_ERRNO");
  assert.equal(new Set(allowed?.names).size, allowed?.names.length);
  for (const name of ["openat", "futex_waitv", "arch_prctl", "ptrace"]) assert.ok(allowed?.names.includes(name), name);
  for (const name of [
    "mount",
    "bpf",
    "chroot",
    "clone",
    "clone3",
    "socket",
    "personality",
    "io_uring_setup",
    "keyctl",
  ]) {
    assert.ok(!allowed?.names.includes(name), name);
  }
  assert.deepEqual(
    plain.syscalls?.find(({ names }) => names[0] === "clone3"),
    {
      names: ["clone3"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: 38,
    },
  );
  const admin = defaultSeccompProfile(["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"], "x64").syscalls ?? [];
  for (const name of ["mount", "setns", "clone", "clone3", "chroot"]) assert.ok(admin[1]?.names.includes(name), name);
  assert.ok(!admin.some(({ names, action }) => names.includes("clone3") && action === "SCMP_ACT_ERRNO"));
});

test("an archMap says which architectures' programs run beside the machine's own", () => {
  const parse = (profile: object, arch = "x64") =>
    parseSeccompProfile(JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", ...profile }), {
      path: "/p",
      field: "f",
      bounding: [],
      arch,
      kernelRelease: "6.1",
    }).architectures;
  const archMap = [
    { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
    { architecture: "SCMP_ARCH_AARCH64", subArchitectures: ["SCMP_ARCH_ARM"] },
    { architecture: "SCMP_ARCH_RISCV64", subArchitectures: null },
  ];
  assert.deepEqual(parse({ archMap }), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
  assert.deepEqual(parse({ archMap }, "arm64"), ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
  assert.deepEqual(parse({ archMap }, "riscv64"), ["SCMP_ARCH_RISCV64"]);
  assert.equal(parse({ archMap }, "s390x"), undefined);
  assert.deepEqual(parse({ archMap: [], architectures: ["SCMP_ARCH_X86"] }), ["SCMP_ARCH_X86"]);
  assert.throws(() => parse({ archMap, architectures: ["SCMP_ARCH_X86"] }), invalid(/archMap: it goes without/));
  assert.throws(() => parse({ archMap: [{}] }), invalid(/archMap\[0\]\.architecture: it is no string/));
});

test("the default profile follows the architecture", () => {
  const clone = (arch: string) =>
    defaultSeccompProfile([], arch).syscalls?.find(({ names }) => names[0] === "clone")?.args?.[0]?.index;
  assert.equal(clone("x64"), 0);
  assert.equal(clone("s390x"), 1);
  const arm = defaultSeccompProfile([], "arm64");
  assert.deepEqual(arm.architectures, ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
  assert.ok(arm.syscalls?.[1]?.names.includes("cacheflush"));
  assert.ok(!arm.syscalls?.[1]?.names.includes("arch_prctl"));
});

const conditions = {
  path: "/p.json",
  field: "seccomp.localhost_ref",
  bounding: ["CAP_SYS_TIME"],
  arch: "x64",
  kernelRelease: "6.1.0-18-amd64",
};
const parse = (profile: unknown) =>
  parseSeccompProfile(typeof profile === "string" ? profile : JSON.stringify(profile), conditions);

test("an OCI profile comes through as it is", () => {
  const profile = {
    defaultAction: "SCMP_ACT_ALLOW",
    flags: ["SECCOMP_FILTER_FLAG_LOG"],
    syscalls: [
      { names: ["chmod"], action: "SCMP_ACT_ERRNO", errnoRet: 13 },
      { names: ["socket"], action: "SCMP_ACT_KILL_PROCESS", args: [{ index: 0, value: 40, op: "SCMP_CMP_EQ" }] },
    ],
  };
  assert.deepEqual(parse(profile), profile);
});

test("Docker's conditions are applied, its old name is understood", () => {
  const rule = (names: string, more: object) => ({ name: names, action: "SCMP_ACT_ALLOW", ...more });
  const { syscalls } = parse({
    defaultAction: "SCMP_ACT_ERRNO",
    archMap: [],
    syscalls: [
      rule("a", { includes: { caps: ["CAP_SYS_TIME"] } }),
      rule("b", { includes: { caps: ["CAP_SYS_TIME", "CAP_SYS_ADMIN"] } }),
      rule("c", { excludes: { caps: ["CAP_SYS_TIME"] } }),
      rule("d", { includes: { arches: ["arm64", "amd64"] } }),
      rule("e", { excludes: { arches: ["amd64"] } }),
      rule("f", { includes: { minKernel: "4.8" } }),
      rule("g", { includes: { minKernel: "6.2" } }),
      rule("h", { args: null, comment: "", includes: {}, excludes: {} }),
    ],
  });
  assert.deepEqual(
    syscalls?.map(({ names }) => names[0]),
    ["a", "d", "f", "h"],
  );
});

test("numbers of 64 bits keep their digits", () => {
  const text = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x1234567890123456789"],"action":"SCMP_ACT_LOG",
    "args":[{"index":1,"value":18446744073709551615,"valueTwo":9007199254740993,"op":"SCMP_CMP_MASKED_EQ"}]}]}`;
  const [rule] = parse(text).syscalls ?? [];
  assert.deepEqual(rule?.names, ["x1234567890123456789"]);
  assert.deepEqual(rule?.args, [
    { index: 1, value: "18446744073709551615", valueTwo: "9007199254740993", op: "SCMP_CMP_MASKED_EQ" },
  ]);
});

test("bad profiles name the field, the file and the property", () => {
  const good = { defaultAction: "SCMP_ACT_ALLOW" };
  const bad: [unknown, RegExp][] = [
    ["{", /^seccomp\.localhost_ref: the seccomp profile \/p\.json: it is not JSON/],
    ["[]", /the profile: it is no object/],
    [{}, /defaultAction/],
    [{ ...good, listenerPath: "/s" }, /SCMP_ACT_NOTIFY/],
    [{ ...good, syscalls: [{ names: ["a"], action: "SCMP_ACT_NOTIFY" }] }, /syscalls\[0\]\.action.*SCMP_ACT_NOTIFY/],
    [{ ...good, syscalls: [{ names: ["a"], action: "ALLOW" }] }, /syscalls\[0\]\.action: "ALLOW"/],
    [{ ...good, syscalls: [{ action: "SCMP_ACT_LOG" }] }, /syscalls\[0\]\.names/],
    [{ ...good, syscalls: [{ names: ["a"], action: "SCMP_ACT_LOG", errnoRet: 5000 }] }, /errnoRet/],
    [
      { ...good, syscalls: [{ names: ["a"], action: "SCMP_ACT_LOG", args: [{ index: 6, op: "SCMP_CMP_EQ" }] }] },
      /index/,
    ],
    [
      {
        ...good,
        syscalls: [{ names: ["a"], action: "SCMP_ACT_LOG", args: [{ index: 0, value: -1, op: "SCMP_CMP_EQ" }] }],
      },
      /value/,
    ],
    [{ ...good, syscalls: [{ names: ["a"], action: "SCMP_ACT_LOG", args: [{ index: 0, op: "EQ" }] }] }, /op: "EQ"/],
    [{ ...good, flags: ["X"] }, /flags: "X"/],
  ];
  for (const [profile, message] of bad) assert.throws(() => parse(profile), invalid(message));
});

function invalid(pattern: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof InvalidArgumentError && pattern.test(error.message);
}
