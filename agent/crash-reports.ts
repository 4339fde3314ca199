/**
 * What an agent that crashes leaves for people: a file in `<root>/crashes/` with the error, the calls that were running, and
 * the last calls and events. The next agent says that it is there. It changes nothing about the crash itself: the process
 * ends as it would, and systemd starts it again.
 *
 * A fatal error of V8 (no memory is left, say) leaves a report of Node's own there, since no JavaScript runs any more. What
 * ends by SIGKILL leaves nothing.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Log } from "./log.js";
import { type RecentActivity, recentActivity } from "./recent-activity.js";
import type { Runtime } from "./runtime.js";
import { runtimeVersion } from "./version.js";

const mostKept = 10;
/** of those that nobody has been told of */
const fresh = "new-";

export interface CrashReport {
  time: string;
  version: string;
  node: string;
  uptimeSeconds: number;
  origin: string;
  error: { name: string; message: string; stack: string; code?: unknown };
  memory: NodeJS.MemoryUsage;
  pods: number;
  containers: number;
  activity: RecentActivity | null;
}

/** `<root>/crashes` */
export function crashDirectory(root: string): string {
  return join(root, "crashes");
}

/** Newest first. */
export function crashReportFiles(root: string): string[] {
  const directory = crashDirectory(root);
  try {
    return readdirSync(directory)
      .map((name) => ({ path: join(directory, name), time: statSync(join(directory, name)).mtimeMs }))
      .sort((one, other) => other.time - one.time)
      .map(({ path }) => path);
  } catch {
    return [];
  }
}

/** From now on. Before, it says which reports earlier agents have left, once each, and removes the oldest. */
export function reportCrashes(root: string, runtime: Runtime, log: Log): void {
  const directory = crashDirectory(root);
  try {
    mkdirSync(directory, { mode: 0o700, recursive: true });
    tellOfReports(root, log);
  } catch (error) {
    log.warn(`crash reports cannot be kept: ${error}`);
    return;
  }
  process.on("uncaughtExceptionMonitor", (error, origin) => {
    const report = reportOf(error, origin, runtime);
    const name = `crash-${report.time.replace(/[:.]/g, "-")}-${process.pid}.json`;
    try {
      writeFileSync(join(directory, `${fresh}${name}`), `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600 });
    } catch (failure) {
      // a full disk, say: the log has the error at least
      log.error(`the crash report cannot be written: ${failure}`);
    }
    log.fatal({ origin, stack: report.error.stack }, `the agent crashes: ${report.error.message}`);
  });
  if (process.report !== undefined) {
    process.report.reportOnFatalError = true;
    process.report.directory = directory;
    process.report.filename = `${fresh}fatal-${process.pid}-${Date.now()}.json`;
    // the names of all peers would be asked for, one after another, and the next agent waits for the end of this one
    Object.assign(process.report, { excludeNetwork: true });
  }
}

function reportOf(error: unknown, origin: string, runtime: Runtime): CrashReport {
  const { name, message, stack = "", ...more } = error instanceof Error ? error : new Error(String(error));
  return {
    time: new Date().toISOString(),
    version: runtimeVersion,
    node: process.version,
    uptimeSeconds: Math.round(process.uptime()),
    origin,
    error: { name, message, stack, ...("code" in more && { code: more.code }) },
    memory: process.memoryUsage(),
    pods: runtime.node.pods.size,
    containers: runtime.node.containers.size,
    activity: activityOf(runtime),
  };
}

/** Null: it cannot be told, and the rest is worth more. */
function activityOf(runtime: Runtime): RecentActivity | null {
  try {
    return recentActivity(runtime);
  } catch {
    return null;
  }
}

function tellOfReports(root: string, log: Log): void {
  const directory = crashDirectory(root);
  for (const name of readdirSync(directory).sort()) {
    if (!name.startsWith(fresh)) continue;
    const told = join(directory, name.slice(fresh.length));
    renameSync(join(directory, name), told);
    log.error({ report: told }, "an earlier agent has crashed, and left a report");
  }
  for (const path of crashReportFiles(root).slice(mostKept)) rmSync(path, { force: true });
}
