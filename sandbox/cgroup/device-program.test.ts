import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { assembleDeviceProgram } from "./device-program.js";
import type { DevicePolicy } from "./device-rules.js";

/** An interpreter of the few instructions that the assembler knows: what the kernel would answer. */
function run(program: Uint8Array, context: { type: number; access: number; major: number; minor: number }): number {
  const code = Buffer.from(program);
  const memory = [((context.access << 16) | context.type) >>> 0, context.major, context.minor];
  const registers = new Array<number>(11).fill(0);
  for (let at = 0, steps = 0; steps < 10_000; at += 8, steps++) {
    const destination = code.readUInt8(at + 1) & 15;
    const source = code.readUInt8(at + 1) >> 4;
    const offset = code.readInt16LE(at + 2);
    const constant = code.readUInt32LE(at + 4);
    const value = registers[destination] ?? 0;
    switch (code.readUInt8(at)) {
      case 0x61:
        registers[destination] = memory[offset / 4] ?? 0;
        break;
      case 0xbc:
        registers[destination] = registers[source] ?? 0;
        break;
      case 0xb4:
        registers[destination] = constant;
        break;
      case 0x54:
        registers[destination] = (value & constant) >>> 0;
        break;
      case 0x74:
        registers[destination] = value >>> constant;
        break;
      case 0x56:
        if (value !== constant) at += offset * 8;
        break;
      case 0x16:
        if (value === constant) at += offset * 8;
        break;
      case 0x95:
        return registers[0] ?? -1;
      default:
        assert.fail(`instruction ${code.readUInt8(at)} at ${at}`);
    }
  }
  assert.fail("the program does not end");
}

const access = { m: 1, r: 2, w: 4 };
const block = 1;
const character = 2;

describe("assembleDeviceProgram", () => {
  const denying: DevicePolicy = {
    allowByDefault: false,
    exceptions: [
      { type: "c", major: 1, minor: 3, access: "rwm" },
      { type: "c", major: 5, minor: -1, access: "rw" },
      { type: "b", major: -1, minor: -1, access: "m" },
      { type: "c", major: 0xffff_ffff, minor: 0x8000_0000, access: "r" },
    ],
  };
  const program = assembleDeviceProgram(denying);
  const cases: [string, number, number, number, number, number][] = [
    ["a device of the list", character, access.r | access.w, 1, 3, 1],
    ["another minor number", character, access.r, 1, 4, 0],
    ["another type", block, access.r, 1, 3, 0],
    ["any minor number", character, access.w, 5, 77, 1],
    ["more than is allowed", character, access.w | access.m, 5, 77, 0],
    ["any block device's node", block, access.m, 8, 1, 1],
    ["reading any block device", block, access.r, 8, 1, 0],
    ["numbers with their highest bit set", character, access.r, 0xffff_ffff, 0x8000_0000, 1],
  ];
  for (const [what, type, uses, major, minor, granted] of cases) {
    it(`${granted === 1 ? "grants" : "refuses"} ${what}`, () => {
      assert.equal(run(program, { type, access: uses, major, minor }), granted);
    });
  }

  it("refuses an exception's uses when all is allowed", () => {
    const allowing = assembleDeviceProgram({
      allowByDefault: true,
      exceptions: [{ type: "b", major: 8, minor: 0, access: "w" }],
    });
    const disk = { type: block, major: 8, minor: 0 };
    assert.equal(run(allowing, { ...disk, access: access.r }), 1);
    assert.equal(run(allowing, { ...disk, access: access.r | access.w }), 0);
    assert.equal(run(allowing, { type: block, major: 8, minor: 1, access: access.w }), 1);
  });

  it("has eight bytes an instruction", () => {
    assert.equal(assembleDeviceProgram({ allowByDefault: true, exceptions: [] }).length, 8 * 8);
  });
});
