/** SELinux of this host: the policy's own labels for containers, and whether a label is one of the policy's. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatContext, parseContext, type SelinuxContext } from "../spec/selinux.js";

export interface SelinuxPlaces {
  /** the kernel's file system */
  selinuxfs?: string;
  /** the configuration, with a directory of each policy's below */
  etc?: string;
}

export interface Selinux {
  /** the kernel has it, and a policy is loaded */
  readonly enabled: boolean;
  /** what containers' processes are labelled, as the policy's lxc_contexts says; without a level of a pod's own */
  readonly process: SelinuxContext;
  /** what their files are; undefined: the policy has no such label */
  readonly file: SelinuxContext | undefined;
  /** why processes that name no label get none; empty: they do, or there is no SELinux */
  readonly problem: string;
  /** whether the loaded policy has the label */
  isValid(label: string): boolean;
}

// What the file says on every system that has one, and what libselinux' other users take without it.
const fallback = {
  process: { user: "system_u", role: "system_r", type: "container_t", level: "s0" },
  file: { user: "system_u", role: "object_r", type: "container_file_t", level: "s0" },
};

/** @param enabled what the kernel says */
export function openSelinux(enabled: boolean, places: SelinuxPlaces = {}): Selinux {
  const { selinuxfs = "/sys/fs/selinux", etc = "/etc/selinux" } = places;
  const isValid = (label: string): boolean => {
    try {
      writeFileSync(join(selinuxfs, "context"), `${label}\0`, { flag: "r+" });
      return true;
    } catch {
      return false;
    }
  };
  if (!enabled) return { enabled, ...fallback, problem: "", isValid: () => false };

  const hasLevels = readText(join(selinuxfs, "mls")).trim() === "1";
  const { path, text } = lxcContexts(etc);
  const contextOf = (name: "process" | "file"): SelinuxContext => {
    const [, value = ""] = new RegExp(`^\\s*${name}\\s*=\\s*"([^"]*)"`, "m").exec(text) ?? [];
    const context = parseContext(value) ?? fallback[name];
    return { ...context, level: hasLevels ? context.level || "s0" : "" };
  };
  const process = contextOf("process");
  const file = contextOf("file");
  const unknown = [process, file].map(formatContext).filter((label) => !isValid(label));
  const problem =
    unknown.length === 0 ? "" : `its policy has no label ${unknown.join(" and no ")}, as ${path} has it for containers`;
  return { enabled, process, file: isValid(formatContext(file)) ? file : undefined, problem, isValid };
}

/** Of the policy that the system is configured to load. */
function lxcContexts(etc: string): { path: string; text: string } {
  const [, type = "targeted"] = /^\s*SELINUXTYPE\s*=\s*([\w-]+)/m.exec(readText(join(etc, "config"))) ?? [];
  const path = join(etc, type, "contexts", "lxc_contexts");
  return { path, text: readText(path) };
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
