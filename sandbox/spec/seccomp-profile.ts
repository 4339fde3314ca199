/** Seccomp profiles from files: the OCI's linux.seccomp, or Docker's form of it with conditions and an archMap. */
import { InvalidArgumentError } from "../errors.js";
import { capabilityMask } from "./capabilities.js";
import type { LinuxSeccomp, LinuxSeccompArg, LinuxSyscall } from "./oci.js";

const actions = new Set([
  "SCMP_ACT_KILL",
  "SCMP_ACT_KILL_PROCESS",
  "SCMP_ACT_KILL_THREAD",
  "SCMP_ACT_TRAP",
  "SCMP_ACT_ERRNO",
  "SCMP_ACT_TRACE",
  "SCMP_ACT_ALLOW",
  "SCMP_ACT_LOG",
]);
const operators = new Set([
  "SCMP_CMP_NE",
  "SCMP_CMP_LT",
  "SCMP_CMP_LE",
  "SCMP_CMP_EQ",
  "SCMP_CMP_GE",
  "SCMP_CMP_GT",
  "SCMP_CMP_MASKED_EQ",
]);
const flags = new Set([
  "SECCOMP_FILTER_FLAG_LOG",
  "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
  "SECCOMP_FILTER_FLAG_TSYNC",
  "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]);
/** This architecture's name in an archMap. */
const nativeArchitectures: Record<string, string> = {
  x64: "SCMP_ARCH_X86_64",
  arm64: "SCMP_ARCH_AARCH64",
  ppc64: "SCMP_ARCH_PPC64LE",
  s390x: "SCMP_ARCH_S390X",
  riscv64: "SCMP_ARCH_RISCV64",
};
/** Docker's names of architectures for Node's. */
const architectureNames: Record<string, string[]> = {
  x64: ["amd64"],
  arm64: ["arm64"],
  ppc64: ["ppc64le"],
  s390x: ["s390x"],
  riscv64: ["riscv64"],
};
const maxErrno = 4095;
const maxRules = 10_000;

export interface ProfileConditions {
  /** of the file, and the field of the request that names it, for messages */
  path: string;
  field: string;
  bounding: readonly string[];
  arch: string;
  /** "6.1.0-18-amd64" */
  kernelRelease: string;
}

/** Checks a profile and applies its conditions. InvalidArgumentError names the field, the file and the property. */
export function parseSeccompProfile(text: string, conditions: ProfileConditions): LinuxSeccomp {
  const wrong = (what: string): InvalidArgumentError =>
    new InvalidArgumentError(`${conditions.field}: the seccomp profile ${conditions.path}: ${what}`);
  let json: unknown;
  try {
    json = JSON.parse(quoteLargeNumbers(text));
  } catch (error) {
    throw wrong(`it is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  const profile = asObject(json, "the profile", wrong);
  if (profile.listenerPath || profile.listenerMetadata) {
    throw wrong("listenerPath: a supervisor of system calls (SCMP_ACT_NOTIFY) is not supported");
  }
  const rules = asList(profile.syscalls, "syscalls", wrong);
  if (rules.length > maxRules) throw wrong(`syscalls: more than ${maxRules} rules`);
  const defaultErrnoRet = asErrno(profile.defaultErrnoRet, "defaultErrnoRet", wrong);
  const architectures = architecturesOf(profile, conditions.arch, wrong);
  const profileFlags = asStrings(profile.flags, "flags", wrong);
  for (const flag of profileFlags) {
    if (!flags.has(flag)) throw wrong(`flags: ${JSON.stringify(flag)} is no flag of a filter`);
  }
  return {
    defaultAction: asAction(profile.defaultAction, "defaultAction", wrong),
    ...(defaultErrnoRet !== undefined && { defaultErrnoRet }),
    ...(architectures.length > 0 && { architectures }),
    ...(profileFlags.length > 0 && { flags: profileFlags }),
    syscalls: rules.flatMap((rule, index) => parseRule(rule, `syscalls[${index}]`, conditions, wrong)),
  };
}

type Wrong = (what: string) => InvalidArgumentError;

/** The list, or what Docker's archMap says of this architecture. */
function architecturesOf(profile: Record<string, unknown>, arch: string, wrong: Wrong): string[] {
  const named = asStrings(profile.architectures, "architectures", wrong);
  const map = asList(profile.archMap, "archMap", wrong).map((entry, index) => {
    const where = `archMap[${index}]`;
    const { architecture, subArchitectures } = asObject(entry, where, wrong);
    const name = asString(architecture, `${where}.architecture`, wrong);
    return { name, others: asStrings(subArchitectures, `${where}.subArchitectures`, wrong) };
  });
  if (named.length > 0 && map.length > 0) throw wrong("archMap: it goes without architectures");
  const own = map.find(({ name }) => name === nativeArchitectures[arch]);
  return own === undefined ? named : [own.name, ...own.others];
}

function parseRule(json: unknown, where: string, conditions: ProfileConditions, wrong: Wrong): LinuxSyscall[] {
  const rule = asObject(json, where, wrong);
  const includes = rule.includes ? asObject(rule.includes, `${where}.includes`, wrong) : {};
  const excludes = rule.excludes ? asObject(rule.excludes, `${where}.excludes`, wrong) : {};
  if (!meets(includes, "all", conditions, wrong) || meets(excludes, "any", conditions, wrong)) return [];
  const names =
    rule.name !== undefined
      ? [asString(rule.name, `${where}.name`, wrong)]
      : asStrings(rule.names, `${where}.names`, wrong);
  if (names.length === 0) throw wrong(`${where}.names: a rule needs the name of a system call`);
  const errnoRet = asErrno(rule.errnoRet, `${where}.errnoRet`, wrong);
  const args = asList(rule.args, `${where}.args`, wrong).map((arg, i) => parseArg(arg, `${where}.args[${i}]`, wrong));
  return [
    {
      names,
      action: asAction(rule.action, `${where}.action`, wrong),
      ...(errnoRet !== undefined && { errnoRet }),
      ...(args.length > 0 && { args }),
    },
  ];
}

/** Of includes every condition must hold; of excludes one is enough. */
function meets(
  filter: Record<string, unknown>,
  how: "all" | "any",
  conditions: ProfileConditions,
  wrong: Wrong,
): boolean {
  const results: boolean[] = [];
  const caps = asStrings(filter.caps, "caps", wrong);
  const bounding = capabilityMask(conditions.bounding);
  for (const cap of caps) results.push((bounding & capabilityMask([cap])) !== 0n);
  const arches = asStrings(filter.arches, "arches", wrong);
  if (arches.length > 0) results.push(arches.some((name) => architectureNames[conditions.arch]?.includes(name)));
  if (filter.minKernel)
    results.push(isAtLeast(conditions.kernelRelease, asString(filter.minKernel, "minKernel", wrong)));
  return how === "all" ? results.every(Boolean) : results.some(Boolean);
}

function isAtLeast(release: string, minimum: string): boolean {
  const [major = 0, minor = 0] = release.split(/[.-]/).map(Number);
  const [minMajor = 0, minMinor = 0] = minimum.split(".").map(Number);
  return major > minMajor || (major === minMajor && minor >= minMinor);
}

function parseArg(json: unknown, where: string, wrong: Wrong): LinuxSeccompArg {
  const arg = asObject(json, where, wrong);
  const op = asString(arg.op, `${where}.op`, wrong);
  if (!operators.has(op)) throw wrong(`${where}.op: ${JSON.stringify(op)} is no comparison`);
  const index = arg.index ?? 0;
  if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index > 5) {
    throw wrong(`${where}.index: a system call has arguments 0 to 5`);
  }
  const valueTwo = arg.valueTwo === undefined ? undefined : asUint64(arg.valueTwo, `${where}.valueTwo`, wrong);
  return {
    index,
    value: asUint64(arg.value ?? 0, `${where}.value`, wrong),
    ...(valueTwo !== undefined && { valueTwo }),
    op,
  };
}

/** JSON.parse would round them; as strings they keep their digits. */
function quoteLargeNumbers(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|[0-9]{16,}/g, (token) => (token.startsWith('"') ? token : `"${token}"`));
}

function asUint64(value: unknown, where: string, wrong: Wrong): number | string {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  if (typeof value === "string" && /^[0-9]{1,20}$/.test(value) && BigInt(value) < 1n << 64n) return value;
  throw wrong(`${where}: it is no unsigned number of 64 bits`);
}

function asObject(value: unknown, where: string, wrong: Wrong): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(`${where}: it is no object`);
  return value as Record<string, unknown>;
}

function asList(value: unknown, where: string, wrong: Wrong): unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw wrong(`${where}: it is no list`);
  return value;
}

function asString(value: unknown, where: string, wrong: Wrong): string {
  if (typeof value !== "string") throw wrong(`${where}: it is no string`);
  return value;
}

function asStrings(value: unknown, where: string, wrong: Wrong): string[] {
  return asList(value, where, wrong).map((item) => asString(item, where, wrong));
}

function asErrno(value: unknown, where: string, wrong: Wrong): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > maxErrno) {
    throw wrong(`${where}: it is no errno`);
  }
  return value;
}

function asAction(value: unknown, where: string, wrong: Wrong): string {
  if (value === "SCMP_ACT_NOTIFY") {
    throw wrong(`${where}: a supervisor of system calls (SCMP_ACT_NOTIFY) is not supported`);
  }
  if (typeof value !== "string" || !actions.has(value)) throw wrong(`${where}: ${JSON.stringify(value)} is no action`);
  return value;
}
