/**
 * The device policy as a BPF program of type CGROUP_DEVICE, for cgroup2 (linux/bpf.h: struct bpf_insn, struct
 * bpf_cgroup_dev_ctx). It answers 1 for access granted, 0 for refused.
 */
import type { DeviceException, DevicePolicy } from "./device-rules.js";

/** Bits of the upper half of bpf_cgroup_dev_ctx.access_type; the lower half is the type. */
const accessBits: Record<string, number> = { m: 1, r: 2, w: 4 };
const allAccess = 7;
const typeNumber = { b: 1, c: 2 } as const;

/** Operation codes: class, size or source, and operation together. */
const LOAD_WORD = 0x61;
const MOVE_32 = 0xbc;
const MOVE_32_CONSTANT = 0xb4;
const AND_32_CONSTANT = 0x54;
const SHIFT_RIGHT_32_CONSTANT = 0x74;
/** of the 32-bit class: a device number may have its highest bit set */
const JUMP_32_UNLESS_EQUAL = 0x56;
const JUMP_32_IF_EQUAL = 0x16;
const EXIT = 0x95;

/** r1 holds the context until its three words are loaded, and is scratch after that. */
const result = 0;
const scratch = 1;
const type = 2;
const access = 3;
const major = 4;
const minor = 5;

interface Instruction {
  code: number;
  destination?: number;
  source?: number;
  offset?: number;
  constant?: number;
}

/** The program's instructions, little-endian, 8 bytes each. */
export function assembleDeviceProgram(policy: DevicePolicy): Uint8Array {
  return encode([
    { code: LOAD_WORD, destination: type, source: scratch, offset: 0 },
    { code: MOVE_32, destination: access, source: type },
    { code: SHIFT_RIGHT_32_CONSTANT, destination: access, constant: 16 },
    { code: AND_32_CONSTANT, destination: type, constant: 0xffff },
    { code: LOAD_WORD, destination: major, source: scratch, offset: 4 },
    { code: LOAD_WORD, destination: minor, source: scratch, offset: 8 },
    ...policy.exceptions.flatMap((exception) => exceptionBlock(exception, policy.allowByDefault)),
    ...answer(policy.allowByDefault),
  ]);
}

/** Tests that jump past the block when the exception does not apply, and its answer when it does. */
function exceptionBlock(exception: DeviceException, allowByDefault: boolean): Instruction[] {
  const tests: Instruction[] = [
    { code: JUMP_32_UNLESS_EQUAL, destination: type, constant: typeNumber[exception.type] },
  ];
  const mask = [...exception.access].reduce((bits, letter) => bits | (accessBits[letter] ?? 0), 0);
  if (mask !== allAccess) {
    // An exception that allows must cover all that is asked; one that refuses need only touch it.
    const unwanted = allowByDefault ? mask : allAccess & ~mask;
    tests.push({ code: MOVE_32, destination: scratch, source: access });
    tests.push({ code: AND_32_CONSTANT, destination: scratch, constant: unwanted });
    tests.push({ code: allowByDefault ? JUMP_32_IF_EQUAL : JUMP_32_UNLESS_EQUAL, destination: scratch, constant: 0 });
  }
  if (exception.major >= 0) tests.push({ code: JUMP_32_UNLESS_EQUAL, destination: major, constant: exception.major });
  if (exception.minor >= 0) tests.push({ code: JUMP_32_UNLESS_EQUAL, destination: minor, constant: exception.minor });
  const block = [...tests, ...answer(!allowByDefault)];
  return block.map((instruction, index) =>
    instruction.code === JUMP_32_UNLESS_EQUAL || instruction.code === JUMP_32_IF_EQUAL
      ? { ...instruction, offset: block.length - index - 1 }
      : instruction,
  );
}

function answer(granted: boolean): Instruction[] {
  return [{ code: MOVE_32_CONSTANT, destination: result, constant: granted ? 1 : 0 }, { code: EXIT }];
}

function encode(instructions: Instruction[]): Uint8Array {
  const bytes = Buffer.alloc(instructions.length * 8);
  for (const [index, { code, destination = 0, source = 0, offset = 0, constant = 0 }] of instructions.entries()) {
    const at = index * 8;
    bytes.writeUInt8(code, at);
    bytes.writeUInt8((source << 4) | destination, at + 1);
    bytes.writeInt16LE(offset, at + 2);
    bytes.writeInt32LE(constant | 0, at + 4);
  }
  return bytes;
}
