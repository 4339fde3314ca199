/** The default profile's filter, walked through for every call of the machine's three architectures. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { native } from "../native/binding.js";
import { defaultSeccompProfile } from "./spec/default-seccomp-profile.js";

const headers = "/usr/include/x86_64-linux-gnu/asm";
const skip =
  process.arch !== "x64" || !existsSync(`${headers}/unistd_32.h`) ? "it needs Linux' headers of x86_64" : false;

const tokens = { x86_64: 0xc000003e, i386: 0x40000003, arm: 0x40000028 };
const x32Bit = 0x4000_0000;
const allow = 0x7fff_0000;
const errno = (number: number) => 0x0005_0000 | number;
const [eperm, enosys] = [errno(1), errno(38)];
const kill = 0x8000_0000;
const newest = 466;

interface Call {
  arch: number;
  number: number;
  args?: bigint[];
}

/** What the kernel would do with a call: classic BPF over struct seccomp_data. */
function run(program: Buffer, { arch, number, args = [] }: Call): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(arch, 4);
  for (const [index, arg] of args.entries()) data.writeBigUInt64LE(arg, 16 + 8 * index);
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const [code, k] = [program.readUInt16LE(at * 8), program.readUInt32LE(at * 8 + 4)];
    const jump = (condition: boolean) => program.readUInt8(at * 8 + (condition ? 2 : 3));
    if (code === 0x20) accumulator = data.readUInt32LE(k);
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (code === 0x05) at += k;
    else if (code === 0x15) at += jump(accumulator === k);
    else if (code === 0x25) at += jump(accumulator > k);
    else if (code === 0x35) at += jump(accumulator >= k);
    else if (code === 0x45) at += jump((accumulator & k) !== 0);
    else if (code === 0x06) return k;
    else throw new Error(`instruction ${code.toString(16)}`);
  }
}

function numbersOf(header: string): Map<string, number> {
  const text = readFileSync(`${headers}/${header}`, "utf8");
  const found = [...text.matchAll(/^#define __NR_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)\)?$/gm)];
  assert.ok(found.length > 300, header);
  return new Map(found.map(([, name = "", number]) => [name, Number(number)]));
}

/** Those whose arguments count, and those that have an answer of their own. */
const special = new Set(["socket", "personality", "clone", "clone3", "socketcall"]);

for (const [what, capabilities] of [
  ["no capability", []],
  ["all that the profile knows", ["CAP_SYS_ADMIN", "CAP_SYS_TIME", "CAP_BPF", "CAP_SYS_CHROOT", "CAP_SYSLOG"]],
] as const) {
  test(`with ${what}: a name is a call on every architecture, and what is not named on none`, { skip }, () => {
    const profile = defaultSeccompProfile(capabilities, "x64");
    const program = Buffer.from(native.compileSeccomp(profile));
    const allowed = new Set(
      profile.syscalls?.flatMap(({ names, action, args }) => (action === "SCMP_ACT_ALLOW" && !args ? names : [])),
    );
    for (const [header, arch, bit] of [
      ["unistd_64.h", tokens.x86_64, 0],
      ["unistd_32.h", tokens.i386, 0],
      ["unistd_x32.h", tokens.x86_64, x32Bit],
    ] as const) {
      for (const [name, number] of numbersOf(header)) {
        if (special.has(name)) continue;
        const expected = allowed.has(name) ? allow : number > newest && bit === 0 ? enosys : eperm;
        assert.equal(run(program, { arch, number: number | bit }), expected, `${header} ${name}`);
      }
    }
    for (const number of [newest + 1, 600, 5000]) {
      assert.equal(run(program, { arch: tokens.x86_64, number }), enosys, `${number}`);
      assert.equal(run(program, { arch: tokens.i386, number }), enosys, `${number} in 32 bits`);
    }
    assert.equal(run(program, { arch: tokens.arm, number: 1 }), kill);
  });
}

test("what a call may be asked for is the same in 32 bits, and socketcall is no way around it", { skip }, () => {
  const program = Buffer.from(native.compileSeccomp(defaultSeccompProfile([], "x64")));
  const numbers: [header: string, arch: number, bit: number][] = [
    ["unistd_64.h", tokens.x86_64, 0],
    ["unistd_32.h", tokens.i386, 0],
    ["unistd_x32.h", tokens.x86_64, x32Bit],
  ];
  for (const [header, arch, bit] of numbers) {
    const ofName = numbersOf(header);
    const call = (name: string, ...args: bigint[]) =>
      run(program, { arch, number: (ofName.get(name) ?? -1) | bit, args });
    for (const family of [1n, 2n, 10n, 16n, 39n, 41n])
      assert.equal(call("socket", family), allow, `${header} ${family}`);
    for (const family of [38n, 40n]) assert.equal(call("socket", family), eperm, `${header} ${family}`);
    for (const value of [0n, 8n, 0x20008n, 0xffff_ffffn]) assert.equal(call("personality", value), allow);
    assert.equal(call("personality", 0x40000n), eperm);
    assert.equal(call("clone", 0x11n), allow, header);
    for (const flag of [17n, 25n, 26n, 27n, 28n, 29n, 30n]) {
      assert.equal(call("clone", 1n << flag), eperm, `${header} ${flag}`);
    }
    assert.equal(call("clone3"), enosys, header);
  }
  for (let subcall = 0n; subcall < 25n; subcall++) {
    assert.equal(run(program, { arch: tokens.i386, number: 102, args: [subcall] }), enosys, `socketcall ${subcall}`);
  }
});
