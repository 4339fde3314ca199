/**
 * Messages of the CRI with random content, for tests: every field of runtime.proto, values that are right, at a limit, and
 * nonsense. The same seed gives the same messages.
 */
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const proto = fileURLToPath(new URL("../../../cri-proto/runtime.proto", import.meta.url));
const types = new protobuf.Root().loadSync(proto, { keepCase: true });
types.resolveAll();

/** Numbers from 0 to below 1 (mulberry32). */
export type Random = () => number;

export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const paths = ["/", "/a", "/a/b/c", "/dev", "/dev/null", "/dev/shm", "/etc/hosts", "/tmp", "/sys/fs/cgroup", "/sys"];
const digits = ["0", "1", "0-1", "0,1", "1-0", "4294967295", "-1", "1.5", "0x1"];

/** By the field's name: what is, or nearly is, a value of it. */
const likely: [field: RegExp, values: readonly string[]][] = [
  [
    /path|working_dir|directory|cgroup_parent|localhost_ref/,
    [...paths, "rel", "a/../b", "/a/../..", "/proc", "/proc/1"],
  ],
  [/permissions/, ["r", "rw", "rwm", "mwr", "rr", "x"]],
  [/page_size/, ["2MB", "1GB", "64KB", "2M", "0MB"]],
  [/cpuset/, digits],
  [/capabilities/, ["ALL", "CHOWN", "CAP_KILL", "net_admin", "CAP_ALL", "FLY", "SYS_RESOURCE"]],
  [/username/, ["root", "app", "nobody", "0", "1000", "4294967296"]],
  [/mount_options/, ["noexec", "nosuid", "nodev", "suid", "noatime", "ro"]],
  [/seccomp_profile_path/, ["runtime/default", "unconfined", "localhost//p", "docker/default", "localhost/p"]],
  [/apparmor_profile/, ["runtime/default", "unconfined", "localhost/p", "localhost/"]],
  [/servers|host_ip|ip$/, ["10.0.0.10", "::1", "1.2.3", "fd00::1%eth0", "0.0.0.0"]],
  [/command|args/, ["sh", "-c", "true", "/bin/true"]],
  [/key/, ["A", "PATH", "HOME", "HOSTNAME", "TERM", "a.b"]],
  [/hostname/, ["pod1", "a.b", "-a", "a_b", "h".repeat(64), "h".repeat(65)]],
];
/** Keys of maps, by the map's name. */
const likelyKeys: [field: RegExp, values: readonly string[]][] = [
  [
    /sysctls/,
    [
      "net.core.somaxconn",
      "net/ipv4/ip_forward",
      "kernel.shmmax",
      "kernel.core_pattern",
      "net..x",
      "fs.mqueue.msg_max",
    ],
  ],
  [/unified/, ["memory.high", "pids.max", "cgroup.procs", "memory.oom.group", "io.weight", "x"]],
  [/labels|annotations/, ["a", "b/c", "__proto__", "cdi.k8s.io/x"]],
];
const nonsense = [
  ...[
    "",
    " ",
    "\0",
    "a\0b",
    "a\nb",
    "a\tb",
    "..",
    ".",
    "/..",
    "//",
    "a=b",
    "=",
    ":",
    "a:b:c",
    "%s",
    "é",
    "😀",
    "\u2028",
    "\ufffd",
  ],
  ...["__proto__", "constructor", "toString", "null", "NaN", "1e9", "-0", "x".repeat(300), "/".repeat(5000)],
];
const wholeNumbers = [0, 1, 2, 5, 64, 100, 512, 1000, 1001, 65_535, 65_536, 100_000, 1_000_000, 0x7fff_ffff];
const limits = [
  "-1",
  "-2",
  "-1000",
  "2147483648",
  "4294967294",
  "4294967295",
  "4294967296",
  "6291456",
  "9007199254740993",
];
const extremes = ["9223372036854775807", "-9223372036854775808"];

/** How often a value is nonsense, and a field said at all. */
export interface RandomOptions {
  random: Random;
  nonsense: number;
  present: number;
}

/** A message of runtime.v1 as an object that its fromObject takes. */
export function randomMessage(name: string, options: RandomOptions): Record<string, unknown> {
  const { random, present } = options;
  const message: Record<string, unknown> = {};
  for (const field of types.lookupType(`runtime.v1.${name}`).fieldsArray) {
    if (/windows/i.test(field.name) || random() > present) continue;
    if (field instanceof protobuf.MapField) {
      const entries = listOf(options, () => [keyOf(field, options), randomValue(field, options)] as const);
      message[field.name] = Object.fromEntries(entries);
    } else {
      message[field.name] = field.repeated
        ? listOf(options, () => randomValue(field, options))
        : randomValue(field, options);
    }
  }
  return message;
}

function listOf<T>({ random }: RandomOptions, make: () => T): T[] {
  return Array.from({ length: Math.floor(random() * 4) }, make);
}

function pick<T>(random: Random, values: readonly T[]): T {
  return values[Math.floor(random() * values.length)] as T;
}

function keyOf(field: protobuf.Field, { random, nonsense: odd }: RandomOptions): string {
  const values = likelyKeys.find(([pattern]) => pattern.test(field.name))?.[1] ?? nonsense;
  return pick(random, random() < odd ? nonsense : values);
}

function randomValue(field: protobuf.Field, options: RandomOptions): unknown {
  const { random, nonsense: odd } = options;
  const isOdd = random() < odd;
  const { resolvedType } = field;
  if (resolvedType instanceof protobuf.Type) {
    return randomMessage(resolvedType.fullName.replace(/^\.?runtime\.v1\./, ""), options);
  }
  if (resolvedType instanceof protobuf.Enum)
    return pick(random, isOdd ? [-1, 99, 7] : Object.values(resolvedType.values));
  switch (field.type) {
    case "string":
      return textOf(field, isOdd, random);
    case "bytes":
      return isOdd
        ? Buffer.from([0xff, 0x41, ...(random() < 0.3 ? [0] : [])])
        : Buffer.from(pick(random, ["", "x", "y=z"]));
    case "bool":
      return random() < 0.3;
    case "int64":
      return pick<string | number>(random, isOdd ? [...limits, ...extremes] : wholeNumbers).toString();
    case "uint64":
      return pick<string | number>(
        random,
        isOdd ? ["18446744073709551615", "9007199254740993"] : wholeNumbers,
      ).toString();
    case "int32":
      return pick(random, isOdd ? [-1, -0x8000_0000] : wholeNumbers);
    case "uint32":
      return pick(random, isOdd ? [0xffff_ffff, 0xffff_fffe] : wholeNumbers);
    default:
      return random() * 1000;
  }
}

function textOf(field: protobuf.Field, isOdd: boolean, random: Random): string {
  if (isOdd) return pick(random, nonsense);
  return pick(random, likely.find(([pattern]) => pattern.test(field.name))?.[1] ?? ["", "a", "b"]);
}
