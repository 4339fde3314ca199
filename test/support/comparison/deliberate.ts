/** Where Berth and runc differ on purpose. Everything else that differs is a fault. */

import type { Mount } from "../../../sandbox/spec/oci.js";
import { isWithin } from "../../../sandbox/spec/paths.js";
import type { Comparison, SideName } from "./sides.js";

export interface Deliberate {
  reason: string;
  /** the line as both sides must have it; null: it is not compared */
  change(line: string, side: SideName, comparison: Comparison): string | null;
}

/** the last system call that runc's libseccomp (2.5.4) knows */
const lastKnownCall = 450;

/** The images have /link for /data, and /up for /data/over. */
export function resolved(path: string): string {
  return path
    .replace(/^\/var\/run(?=\/|$)/, "/run")
    .replace(/^\/link(?=\/|$)/, "/data")
    .replace(/^\/up(?=\/|$)/, "/data/over");
}

function isBelow(path: string, paths: readonly string[] = []): boolean {
  return paths.some((one) => isWithin(path, resolved(one)));
}

/** rw is no option of its own; nosymfollow gets lost, too, also when it is asked for. */
function isAsked(option: string, { options }: Mount): boolean {
  if (option === "ro") return options.includes("ro") || options.includes("rro");
  if (option === "rw" || option === "nosymfollow") return false;
  return !/^(nosuid|nodev|noexec|noatime|relatime|nodiratime)$/.test(option) || options.includes(option);
}

/** Keeps some options of the mount in a line of mountinfo; those of the file system stay. */
function changeOptions(line: string, keeps: (option: string) => boolean): string {
  return line.replace(
    /( root:\S+ )(\S*) \[/,
    (_, before: string, options: string) => `${before}${options.split(",").filter(keeps).join(",")} [`,
  );
}

/** The line is not compared. */
function ignore(pattern: RegExp): Deliberate["change"] {
  return (line) => (pattern.test(line) ? null : line);
}

export const deliberate: readonly Deliberate[] = [
  {
    reason: "a container's program dies with its monitor, so that nothing of a pod is left without one",
    change: (line, side) => (side === "berth" && line === "prctl death signal 9" ? "prctl death signal 0" : line),
  },
  {
    reason: "the cgroup2 hierarchy of a hybrid host is there, too: its cgroup.kill and cgroup.freeze are used",
    change: ignore(/^(mount|access|file|cgroup-of-host) \/sys\/fs\/cgroup\/unified|^proc cgroup 0::/),
  },
  {
    reason: "the directory of the cgroup hierarchies is read-only, as the spec says; runc leaves it writable",
    change: ignore(/^(mount|access) \/sys\/fs\/cgroup( |$)/),
  },
  {
    reason:
      "what covers a masked path is read-only, nosuid and noexec; for a file it is the host's node, which root inside cannot change",
    change: (line, _side, { spec }) => {
      const [kind, path = ""] = line.split(" ");
      const masked = spec?.linux.maskedPaths.some((one) => resolved(one) === path) ?? false;
      return masked && (kind === "mount" || kind === "access") ? null : line;
    },
  },
  {
    reason: "a readonly path where a mount begins is changed itself, where runc puts a copy of all over it",
    change: (line, _side, { spec }) => {
      const [kind, path = ""] = line.split(" ");
      return kind === "covered-mount" && isBelow(path, spec?.linux.readonlyPaths) ? null : line;
    },
  },
  {
    reason: "what is mounted below a readonly path is read-only, too",
    change: (line, _side, { spec }) => {
      const [kind, path = ""] = line.split(" ");
      if (spec?.linux.readonlyPaths.some((one) => resolved(one) === path)) return line;
      if (!isBelow(path, spec?.linux.readonlyPaths)) return line;
      if (kind === "access") return null;
      return kind === "mount" ? changeOptions(line, (option) => !/^r[ow]$/.test(option)) : line;
    },
  },
  {
    reason:
      "a volume keeps what the host's mount forbids, and its access times; runc (until 1.2) loses them when it remounts",
    change: (line, _side, { spec }) => {
      const [kind, path = ""] = line.split(" ");
      const volumes = spec?.mounts.filter(({ type }) => type === "bind") ?? [];
      const volume =
        volumes.findLast(({ destination }) => resolved(destination) === path) ??
        volumes.findLast(({ destination }) => isWithin(path, resolved(destination)));
      if (volume === undefined) return line;
      if (kind === "file") return line.replace(/ r:\w+ w:\w+$/, "");
      if (resolved(volume.destination) !== path) return line;
      if (kind === "access") return isAsked("ro", volume) ? line : null;
      return kind === "mount" ? changeOptions(line, (option) => isAsked(option, volume)) : line;
    },
  },
  {
    reason:
      "nothing of the host comes into a container's root by propagation; runc leaves that a slave, and its readonly paths, too",
    change: (line) => line.replace(/^(mount .*) \[master\] (overlay overlay )/, "$1 [] $2"),
  },
  {
    reason:
      "a limit of huge pages is one of their reservation, too, so that mmap tells it and no signal (runc from 1.2 on)",
    change: ignore(/^cgroup-of-host \S+\.rsvd\./),
  },
  {
    reason:
      "shares are the weight by the newer formula, in which 1,024 of them are the default, 100; runc 1.1 makes it 39",
    change: ignore(/^cgroup-of-host \S+\/cpu\.weight(\.nice)? /),
  },
  {
    reason: "runc allows /dev/net/tun to everybody by itself (until 1.2)",
    change: ignore(/devices\.list c 10:200 /),
  },
  {
    reason: "a session keyring without a name cannot be joined by guessing it",
    change: (line) => line.replace(/^keyring session keyring;(\d+);.*;_ses(\..*)?$/, "keyring session of $1"),
  },
  {
    reason: "a working directory that is made belongs to the container's user",
    change: (line, _side, { spec }) => {
      const made = resolved(spec?.process.cwd ?? "");
      return line.startsWith(`file ${made} d `) || line.startsWith(`access ${made} `) ? null : line;
    },
  },
  {
    reason: "system calls that Debian's libseccomp does not know yet are ENOSYS for runc",
    change: (line, _side, { spec }) =>
      spec?.linux.seccomp !== undefined && Number(/^syscall (\d+) /.exec(line)?.[1]) > lastKnownCall ? null : line,
  },
];

/** What only one of them refuses, on purpose. */
export const deliberateRefusals: readonly { reason: string; side: SideName; failure: RegExp }[] = [
  {
    reason:
      "what lies where a device should be is no device; runc lets it lie, be it a file of the attacker's at /dev/null",
    side: "berth",
    failure: /mknod .* something else than the device is there already$/,
  },
  {
    reason: "a terminal is taken from a devpts of the container's own; runc takes the host's where a volume lies there",
    side: "berth",
    failure: /a terminal needs a devpts mount at \/dev\/pts$/,
  },
];
