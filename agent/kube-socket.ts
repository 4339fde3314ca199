/** The socket of `berth kube`: a few calls, for a group of users. */
import { chownSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { makeDirectories } from "../sandbox/directories.js";
import { FailedPreconditionError } from "../sandbox/errors.js";
import type { CallTable } from "./call-table.js";
import type { CallSurroundings } from "./call-wrapper.js";
import type { Runtime } from "./runtime.js";
import { type CriServer, serve } from "./server.js";

/** It looks, and prefetches. */
const kubeCalls: ReadonlySet<string> = new Set([
  "Version",
  "Status",
  "ImageStatus",
  "PrefetchImage",
  "WatchHappenings",
]);

/** FailedPreconditionError: there is no such group, or the socket cannot be bound */
export async function serveKube(
  { path, group }: { path: string; group: string },
  runtime: Runtime,
  calls: CallTable,
  around: CallSurroundings,
): Promise<CriServer> {
  const id = groupId(group);
  const directory = dirname(path);
  // one that is there is the administrator's
  if (makeDirectories(directory, 0o750) !== undefined) chownSync(directory, 0, id);
  return serve({ path, passed: null, group: id }, runtime, calls, around, (name) => kubeCalls.has(name));
}

function groupId(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  const entries = readFileSync("/etc/group", "utf8").split("\n");
  const entry = entries.map((line) => line.split(":")).find(([name]) => name === group);
  if (entry === undefined) throw new FailedPreconditionError(`kube-group: there is no group ${group} on this node`);
  return Number(entry[2]);
}
