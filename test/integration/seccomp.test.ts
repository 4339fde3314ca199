/** Seccomp profiles in containers: the runtime's own for 32-bit programs, and files of the node. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  createContainer,
  fails,
  importBusybox,
  out,
  type RunningPod,
  runContainer,
  runPod,
  runToEnd,
  sh,
} from "../support/workload.js";

const skip = process.arch === "x64" ? false : "32-bit programs are built for x86_64's machines here";
const image = { image: "berth.test/32-bit:1" };

// Without a C library: what it says of each call is its result, and its exit code tells that it came to its end.
const program = `
static int call(int number, int one, int two, int three) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(one), "c"(two), "d"(three) : "memory");
  return result;
}
static void tell(const char *name, int length, int result) {
  char text[16];
  int at = 16, number = result < 0 ? -result : result;
  text[--at] = '\\n';
  do text[--at] = '0' + number % 10; while (number /= 10);
  if (result < 0) text[--at] = '-';
  call(4, 1, (int)name, length);
  call(4, 1, (int)text + at, 16 - at);
}
void _start(void) {
  int arguments[3] = {38, 5, 0};
  tell("inet ", 5, call(359, 2, 1, 0) > 0 ? 1 : 0);
  tell("alg ", 4, call(359, 38, 5, 0));
  tell("vsock ", 6, call(359, 40, 1, 0));
  tell("socketcall ", 11, call(102, 1, (int)arguments, 0));
  tell("mount ", 6, call(21, 0, 0, 0));
  tell("newer ", 6, call(600, 0, 0, 0));
  call(1, 7, 0, 0);
}`;

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
  if (skip) return;
  const file = join(agent.paths.base, "probe");
  writeFileSync(`${file}.c`, program);
  execFileSync("cc", [
    "-m32",
    "-nostdlib",
    "-static",
    "-fno-stack-protector",
    "-fno-pie",
    "-no-pie",
    "-w",
    "-o",
    file,
    `${file}.c`,
  ]);
  await importBusybox(agent, image.image, { layers: [[{ path: "probe", mode: 0o755, content: readFileSync(file) }]] });
});

after(() => agent.stop());

/** Runs the program under a profile. */
async function probe(seccomp: object): Promise<{ code: number; told: Record<string, number> }> {
  const linux = { security_context: { seccomp } };
  const { status, output } = await runToEnd(agent, pod, { image, command: ["/probe"], linux });
  const told = output
    .trimEnd()
    .split("\n")
    .map((line) => line.split(" "));
  return { code: status.exit_code ?? -1, told: Object.fromEntries(told.map(([name, text]) => [name, Number(text)])) };
}

function profile(content: object): { profile_type: number; localhost_ref: string } {
  const localhost_ref = join(agent.paths.base, "profile.json");
  writeFileSync(localhost_ref, JSON.stringify(content));
  return { profile_type: 2, localhost_ref };
}

describe("32-bit programs", { skip }, () => {
  test("run under RuntimeDefault, with the same bounds", async () => {
    assert.deepEqual(await probe({ profile_type: 0 }), {
      code: 7,
      told: { inet: 1, alg: -1, vsock: -1, socketcall: -38, mount: -1, newer: -38 },
    });
  });

  test("are not under a profile of the node that does not name their architecture, and are under one that does", async () => {
    const open = {
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: [{ names: ["mount"], action: "SCMP_ACT_ERRNO", errnoRet: 99 }],
    };
    const sigsys = 128 + 31;
    assert.equal((await probe(profile(open))).code, sigsys);
    const others = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    const archMap = [{ architecture: "SCMP_ARCH_X86_64", subArchitectures: others }];
    for (const named of [{ architectures: ["SCMP_ARCH_X86_64", ...others] }, { archMap }]) {
      const { code, told } = await probe(profile({ ...open, ...named }));
      assert.deepEqual([code, told["mount"]], [7, -99], JSON.stringify(named));
    }
  });
});

test("a profile of the node: its arguments, errnos and flags hold, in execs, too, also when the file has gone and the agent was killed", async () => {
  const seccomp = profile({
    defaultAction: "SCMP_ACT_ALLOW",
    flags: ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
    syscalls: [
      // the sticky bit alone
      ...[
        ["chmod", 1],
        ["fchmodat", 2],
        ["fchmodat2", 2],
      ].map(([name, index]) => ({
        names: [name],
        action: "SCMP_ACT_ERRNO",
        errnoRet: 122,
        args: [{ index, value: 0o1000, valueTwo: 0o1000, op: "SCMP_CMP_MASKED_EQ" }],
      })),
    ],
  });
  const script = "mkdir -p /d && chmod 755 /d && echo plain; chmod 1755 /d 2>&1; grep Seccomp: /proc/self/status";
  const expected = "plain\nchmod: /d: Disk quota exceeded\nSeccomp:\t2";
  const { output } = await runToEnd(agent, pod, { ...sh(script), linux: { security_context: { seccomp } } });
  assert.equal(output.trimEnd(), expected);
  const id = await runContainer(agent, pod, { linux: { security_context: { seccomp } } });
  assert.equal(await out(agent, id, script), expected);
  rmSync(seccomp.localhost_ref);
  await agent.kill9();
  await agent.restart();
  assert.equal(await out(agent, id, script), expected);
});

test("a profile under which nothing can be started is told by its field", async () => {
  const names = ["prctl", "capset", "capget", "setresuid", "setgroups"];
  const seccomp = profile({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names, action: "SCMP_ACT_ERRNO" }] });
  const start = (no_new_privs: boolean) =>
    runToEnd(agent, pod, { ...sh("echo runs"), linux: { security_context: { seccomp, no_new_privs } } });
  await fails(
    start(false),
    "INVALID_ARGUMENT",
    /^config\.linux\.security_context\.seccomp: .*drop capabilities.*EPERM/,
  );
  // there it is loaded last
  assert.equal((await start(true)).output, "runs\n");
});

test("what is wrong in a file is told with its path and its place in it", async () => {
  const wrong: [object, RegExp][] = [
    [{}, /profile\.json: defaultAction: undefined is no action/],
    [{ defaultAction: "SCMP_ACT_NOTIFY" }, /profile\.json: defaultAction: a supervisor/],
    [{ defaultAction: "SCMP_ACT_ALLOW", listenerPath: "/s" }, /profile\.json: listenerPath/],
    [{ defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_VAX"] }, /architectures.*SCMP_ARCH_VAX/],
    [
      { defaultAction: "SCMP_ACT_ALLOW", archMap: [], architectures: "x" },
      /profile\.json: architectures: it is no list/,
    ],
    [{ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: [], action: "SCMP_ACT_LOG" }] }, /syscalls\[0\]\.names/],
    [{ defaultAction: "SCMP_ACT_ALLOW", flags: ["X"] }, /profile\.json: flags: "X"/],
  ];
  for (const [content, sentence] of wrong) {
    const linux = { security_context: { seccomp: profile(content) } };
    await fails(createContainer(agent, pod, { linux }), "INVALID_ARGUMENT", sentence);
  }
});
