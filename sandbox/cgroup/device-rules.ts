/** The device rules of a spec, run through once, so that cgroup v1's lists and the BPF program mean the same. */
import { InvalidArgumentError } from "../errors.js";
import type { LinuxDeviceCgroup } from "../spec/oci.js";

export interface DeviceException {
  type: "c" | "b";
  /** -1: every number */
  major: number;
  minor: number;
  /** of r, w and m, in this order */
  access: string;
}

/** What is not an exception is as the default says. */
export interface DevicePolicy {
  allowByDefault: boolean;
  exceptions: DeviceException[];
}

/**
 * Rules are applied in order, as the kernel's v1 lists do: a rule for all devices begins anew, a rule against the default
 * adds an exception, one for the default takes access from the exception of exactly these numbers. Without a rule for all
 * devices the default is to deny. Undefined: there are no rules, and nothing is restricted.
 */
export function devicePolicy(rules: readonly LinuxDeviceCgroup[] | undefined): DevicePolicy | undefined {
  if (rules === undefined || rules.length === 0) return undefined;
  let allowByDefault = false;
  let exceptions = new Map<string, DeviceException>();
  for (const rule of rules) {
    const { type, major, minor, access } = checkRule(rule);
    if (type === "a") {
      allowByDefault = rule.allow;
      exceptions = new Map();
      continue;
    }
    const key = `${type} ${major}:${minor}`;
    const before = exceptions.get(key)?.access ?? "";
    const kept = [..."rwm"].filter((letter) =>
      rule.allow === allowByDefault
        ? before.includes(letter) && !access.includes(letter)
        : (before + access).includes(letter),
    );
    if (rule.allow === allowByDefault && overlaps(exceptions, key, { type, major, minor, access })) {
      throw new InvalidArgumentError(
        `devices: the rule for ${key} takes back a part of an earlier rule of other numbers`,
      );
    }
    if (kept.length === 0) exceptions.delete(key);
    else exceptions.set(key, { type, major, minor, access: kept.join("") });
  }
  return { allowByDefault, exceptions: [...exceptions.values()] };
}

/** What is written to a fresh v1 cgroup, which has its parent's rules. */
export function deviceListWrites(policy: DevicePolicy): { file: "devices.allow" | "devices.deny"; value: string }[] {
  const file = policy.allowByDefault ? "devices.deny" : "devices.allow";
  const writes = policy.exceptions.map(
    ({ type, major, minor, access }) =>
      ({
        file,
        value: `${type} ${orStar(major)}:${orStar(minor)} ${access}`,
      }) as const,
  );
  return policy.allowByDefault ? writes : [{ file: "devices.deny", value: "a" }, ...writes];
}

function orStar(number: number): string {
  return number < 0 ? "*" : String(number);
}

/** Whether an exception of other numbers has a device and an access in common with the rule. */
function overlaps(exceptions: ReadonlyMap<string, DeviceException>, key: string, rule: CheckedRule): boolean {
  return [...exceptions].some(
    ([otherKey, other]) =>
      otherKey !== key &&
      other.type === rule.type &&
      (other.major < 0 || rule.major < 0 || other.major === rule.major) &&
      (other.minor < 0 || rule.minor < 0 || other.minor === rule.minor) &&
      [...other.access].some((letter) => rule.access.includes(letter)),
  );
}

interface CheckedRule {
  type: "a" | "c" | "b";
  major: number;
  minor: number;
  access: string;
}

function checkRule(rule: LinuxDeviceCgroup): CheckedRule {
  const { type = "a", major = -1, minor = -1, access = "rwm" } = rule;
  const said = `devices: rule ${type} ${orStar(major)}:${orStar(minor)} ${access}`;
  if (!/^[rwm]{1,3}$/.test(access)) throw new InvalidArgumentError(`${said} has an access other than r, w and m`);
  if (![major, minor].every((number) => Number.isInteger(number) && number >= -1 && number <= 0xffff_ffff)) {
    throw new InvalidArgumentError(`${said} has a device number out of range`);
  }
  if (type === "a" && (major !== -1 || minor !== -1 || new Set(access).size !== 3)) {
    throw new InvalidArgumentError(`${said} is for all devices, but not for all of their numbers and uses`);
  }
  return { type, major, minor, access };
}
