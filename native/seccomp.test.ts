import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { type TestContext, test } from "node:test";
import { native, type SeccompProfile } from "./binding.js";
import { compileProgram, failure, scratchDirectory } from "./test-support.js";

// Loads the filter from stdin and makes the calls given as "number,arg,arg,..."; prints each one's errno or 0.
const caller = `
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **arguments) {
  static struct sock_filter code[4096];
  long size = 0, got;
  while ((got = read(0, (char *)code + size, sizeof code - size)) > 0) size += got;
  struct sock_fprog program = {size / sizeof code[0], code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 100;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) return 101;
  for (int i = 1; i < count; i++) {
    unsigned long numbers[7] = {0};
    char *rest = arguments[i];
    for (int j = 0; j < 7 && *rest; j++) { numbers[j] = strtoul(rest, &rest, 0); if (*rest) rest++; }
    errno = 0;
    long result;
    if (arguments[i][0] == 'i') { /* a 32-bit call: getpid, or the number behind it with one argument */
#ifdef __x86_64__
      char *rest = arguments[i] + 1;
      long number = *rest ? (long)strtoul(rest, &rest, 0) : 20, first = *rest ? (long)strtoul(rest + 1, 0, 0) : 0;
      __asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(first) : "memory", "r8", "r9", "r10", "r11");
      errno = result < 0 ? (int)-result : 0;
#endif
    } else {
      result = syscall(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]);
    }
    int value = result < 0 ? errno : 0;
    char line[16];
    int length = 0;
    for (int digits = value > 99 ? 100 : value > 9 ? 10 : 1; digits; digits /= 10) line[length++] = '0' + value / digits % 10;
    line[length++] = '\\n';
    write(1, line, length);
  }
  _exit(0);
}
`;

interface Outcome {
  errnos: number[];
  signal: NodeJS.Signals | null;
}

async function tester(t: TestContext): Promise<(profile: SeccompProfile, ...calls: string[]) => Outcome> {
  const program = await compileProgram(scratchDirectory(t), "caller", caller);
  return (profile, ...calls) => {
    const result = spawnSync(program, calls, { input: native.compileSeccomp(profile) });
    assert.ok(result.status === 0 || result.signal !== null, `status ${result.status}`);
    return { errnos: result.stdout.toString().split("\n").filter(Boolean).map(Number), signal: result.signal };
  };
}

const x64 = process.arch === "x64";
const sys = x64
  ? { getuid: 102, personality: 135, getpid: 39, write: 1, clone3: 435 }
  : { getuid: 174, personality: 92, getpid: 172, write: 64, clone3: 435 };

test("a profile that allows: rules refuse by name, with their own errno", async (t) => {
  const call = await tester(t);
  const profile: SeccompProfile = {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [
      { names: ["getuid", "no_such_call"], action: "SCMP_ACT_ERRNO" },
      { names: ["getpid"], action: "SCMP_ACT_ERRNO", errnoRet: 77 },
    ],
  };
  assert.deepEqual(
    call(profile, `${sys.getuid}`, `${sys.getpid}`, `${sys.personality},0xffffffff`, "462").errnos.slice(0, 3),
    [1, 77, 0],
  );
});

test("a profile that refuses: what it names passes, what it could not know is ENOSYS", async (t) => {
  const call = await tester(t);
  const profile: SeccompProfile = {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: 13,
    syscalls: [{ names: ["write", "exit", "exit_group", "getpid", "clone3"], action: "SCMP_ACT_ALLOW" }],
  };
  const { errnos } = call(profile, `${sys.getpid}`, `${sys.getuid}`, "436", "462", `${0x40000000 + 462}`);
  assert.deepEqual(errnos.slice(0, 4), [0, 13, 38, 38]);
});

test("a call newer than libseccomp can be named", async (t) => {
  const call = await tester(t);
  const profile: SeccompProfile = {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [{ names: ["mseal"], action: "SCMP_ACT_ERRNO", errnoRet: 55 }],
  };
  assert.deepEqual(call(profile, "462").errnos, [55]);
});

test("arguments: every operator, several at once, values beyond 53 bits", async (t) => {
  const call = await tester(t);
  const when = (
    ...args: { op: string; value: number | string; valueTwo?: number | string; index?: number }[]
  ): SeccompProfile => ({
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [{ names: ["getuid"], action: "SCMP_ACT_ERRNO", args: args.map((arg) => ({ index: 0, ...arg })) }],
  });
  const refused = (profile: SeccompProfile, ...args: string[]) =>
    call(profile, `${sys.getuid},${args.join(",")}`).errnos[0] === 1;
  assert.deepEqual(
    ["4", "5", "6"].map((v) => refused(when({ op: "SCMP_CMP_EQ", value: 5 }), v)),
    [false, true, false],
  );
  assert.deepEqual(
    ["4", "5", "6"].map((v) => refused(when({ op: "SCMP_CMP_NE", value: 5 }), v)),
    [true, false, true],
  );
  assert.deepEqual(
    ["4", "5", "6"].map((v) => refused(when({ op: "SCMP_CMP_LT", value: 5 }), v)),
    [true, false, false],
  );
  assert.deepEqual(
    ["4", "5", "6"].map((v) => refused(when({ op: "SCMP_CMP_LE", value: 5 }), v)),
    [true, true, false],
  );
  assert.deepEqual(
    ["4", "5", "6"].map((v) => refused(when({ op: "SCMP_CMP_GT", value: 5 }), v)),
    [false, false, true],
  );
  assert.deepEqual(
    ["4", "5", "6"].map((v) => refused(when({ op: "SCMP_CMP_GE", value: 5 }), v)),
    [false, true, true],
  );
  const masked = when({ op: "SCMP_CMP_MASKED_EQ", value: 0x7e020000, valueTwo: 0 });
  assert.deepEqual(
    ["0x7e020000", "0x20000", "0x10000"].map((v) => refused(masked, v)),
    [false, false, true],
  );
  const huge = when({ op: "SCMP_CMP_EQ", value: "0xfffffffffffffffe" });
  assert.deepEqual(
    ["0xfffffffffffffffe", "0xffffffffffffffff"].map((v) => refused(huge, v)),
    [true, false],
  );
  const both = when({ op: "SCMP_CMP_EQ", value: 1 }, { op: "SCMP_CMP_EQ", value: 2, index: 1 });
  assert.deepEqual([refused(both, "1", "2"), refused(both, "1", "3")], [true, false]);
  // Two conditions on one argument: either is enough.
  const either = when({ op: "SCMP_CMP_EQ", value: 1 }, { op: "SCMP_CMP_EQ", value: 3 });
  assert.deepEqual(
    ["1", "2", "3"].map((v) => refused(either, v)),
    [true, false, true],
  );
});

test("calls of an architecture that is not named kill the process", { skip: !x64 }, async (t) => {
  const call = await tester(t);
  const native64: SeccompProfile = {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [{ names: ["getuid"], action: "SCMP_ACT_ERRNO" }],
  };
  assert.equal(call(native64, "i").signal, "SIGSYS");
  const architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"];
  const outcome = call({ ...native64, architectures }, "i", `${sys.getuid}`);
  assert.deepEqual([outcome.signal, outcome.errnos.at(-1)], [null, 1]);
});

test("beside the native architecture: newer calls, and socketcall, by the profile's rules", {
  skip: !x64,
}, async (t) => {
  const call = await tester(t);
  const profile: SeccompProfile = {
    defaultAction: "SCMP_ACT_ERRNO",
    architectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_X86"],
    syscalls: [
      { names: ["write", "exit_group", "getpid", "socket"], action: "SCMP_ACT_ALLOW" },
      { names: ["mseal"], action: "SCMP_ACT_ERRNO", errnoRet: 55 },
      { names: ["socketcall"], action: "SCMP_ACT_ERRNO", errnoRet: 66 },
    ],
  };
  assert.deepEqual(call(profile, "i", "462", "i462", "i463", "i102,1", "i24").errnos, [0, 55, 55, 38, 66, 1]);
});

test("killing actions kill", async (t) => {
  const call = await tester(t);
  for (const action of ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]) {
    const { signal } = call(
      { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["getuid"], action }] },
      `${sys.getuid}`,
    );
    assert.equal(signal, "SIGSYS", action);
  }
});

test("what is wrong in a profile is named", async () => {
  const rule = { names: ["read"], action: "SCMP_ACT_ALLOW" };
  const cases: [SeccompProfile, string, RegExp][] = [
    [{ defaultAction: "ALLOW" }, "EINVAL", /defaultAction: unknown action "ALLOW"/],
    [{ defaultAction: "SCMP_ACT_NOTIFY" }, "EOPNOTSUPP", /SCMP_ACT_NOTIFY/],
    [
      { defaultAction: "SCMP_ACT_ERRNO", syscalls: [rule, { ...rule, action: "X" }] },
      "EINVAL",
      /syscalls\[1\]\.action/,
    ],
    [{ defaultAction: "SCMP_ACT_ERRNO", architectures: ["SCMP_ARCH_VAX"] }, "EINVAL", /architectures.*SCMP_ARCH_VAX/],
    [{ defaultAction: "SCMP_ACT_ERRNO", flags: ["FLAG"] }, "EINVAL", /flags.*"FLAG"/],
    [
      { defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ ...rule, args: [{ index: 0, value: 0, op: "==" }] }] },
      "EINVAL",
      /syscalls\[0\]\.args\[0\]\.op/,
    ],
    [
      { defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ ...rule, args: [{ index: 6, value: 0, op: "SCMP_CMP_EQ" }] }] },
      "EINVAL",
      /syscalls\[0\]\.args\[0\]\.index/,
    ],
    [
      {
        defaultAction: "SCMP_ACT_ERRNO",
        syscalls: [{ ...rule, args: [{ index: 0, value: "1e3", op: "SCMP_CMP_EQ" }] }],
      },
      "EINVAL",
      /"1e3" is no 64-bit number/,
    ],
  ];
  for (const [profile, errnoName, message] of cases) {
    const error = await failure(() => native.compileSeccomp(profile));
    assert.equal(error.errnoName, errnoName);
    assert.match(error.message, message);
  }
  assert.throws(() => native.compileSeccomp({} as SeccompProfile), /defaultAction must be a string/);
});
