/**
 * What somebody who is to help wants to know of a node, a file each: the configuration in force, versions, the doctor's findings, what
 * the agent tells of itself, its last log lines, facts of the kernel. Specs of pods, their environments and annotations
 * are not asked for at all; the rest goes through redact.ts.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { messageOf } from "../../sandbox/errors.js";
import { type Client, withClient } from "../cli/client.js";
import type { Config } from "../config.js";
import { settingValues } from "../config.js";
import { dropIns, mergeConfigTexts, readConfigTexts } from "../configuration/files.js";
import { crashReportFiles } from "../crash-reports.js";
import { diagnose } from "../doctor/diagnose.js";
import { Scraper } from "../metrics-push/scraper.js";
import { defaultConfigFile } from "../settings.js";
import { runtimeVersion } from "../version.js";
import { redactText, redactValue } from "./redact.js";

export interface SupportFile {
  name: string;
  content: string;
}

export interface SupportOptions {
  config?: string;
  /** a log of the agent's, beside the journal */
  log?: string;
}

const mostBytes = 4 * 1024 * 1024;
const journalLines = 5_000;
const patienceMs = 20_000;
const run = promisify(execFile);

const kernelFiles = [
  "proc/version",
  "proc/cmdline",
  "proc/meminfo",
  "proc/loadavg",
  "proc/stat",
  "proc/cgroups",
  "proc/filesystems",
  "proc/modules",
  "proc/swaps",
  "proc/self/mountinfo",
  "proc/self/cgroup",
  "proc/self/limits",
  "proc/pressure/cpu",
  "proc/pressure/memory",
  "proc/pressure/io",
  "sys/fs/cgroup/cgroup.controllers",
  "etc/os-release",
];

/** What cannot be had has a file, too, that says why. */
export async function collectSupport(options: SupportOptions): Promise<SupportFile[]> {
  const { config, findings, host } = await diagnose({ ...options, registry: [], registries: false });
  const files: SupportFile[] = [];
  const add = async (name: string, collect: () => Promise<unknown> | unknown): Promise<void> => {
    try {
      const value = await collect();
      if (value === undefined) return;
      const content = typeof value === "string" ? redactText(value) : JSON.stringify(redactValue(value), null, 2);
      files.push({ name, content: content.endsWith("\n") ? content : `${content}\n` });
    } catch (error) {
      files.push({ name: `${name}.missing`, content: redactText(`${messageOf(error)}\n`) });
    }
  };

  await add("versions.json", () => ({ berth: runtimeVersion, node: process.versions, host, time: new Date() }));
  await add("doctor.json", () => findings);
  await add("configuration.json", () => configuration(options.config));
  for (const path of configurationFiles(options.config)) {
    await add(`configuration/${path.replace(/^\//, "").replaceAll("/", "_").slice(-40)}`, () => readFile(path, "utf8"));
  }
  await add("registries.txt", async () => (await registryFiles(config)).join("\n"));
  await addFromAgent(config, add);
  for (const path of crashReportFiles(config.root)) {
    await add(`crashes/${path.slice(path.lastIndexOf("/") + 1)}`, async () => crashReport(await readTail(path)));
  }
  for (const path of await monitorLogs(config)) {
    const pod = path.split("/").at(-2) ?? "";
    await add(`monitors/${pod.slice(0, 12)}.log`, () => readTail(path, 64 * 1024));
  }
  for (const path of kernelFiles) {
    if (existsSync(`/${path}`)) await add(`kernel/${path.replaceAll("/", "_")}`, () => readTail(`/${path}`));
  }
  await add("journal.log", journal);
  const { log } = options;
  if (log !== undefined) await add("agent.log", () => readTail(log));
  return files;
}

type Add = (name: string, collect: () => Promise<unknown> | unknown) => Promise<void>;

async function addFromAgent({ listen, metrics }: Config, add: Add): Promise<void> {
  const ask = (call: (client: Client) => Promise<unknown>) => () => withClient({ socket: listen }, call);
  const options = { longs: String, enums: String, defaults: true } as const;
  await add(
    "agent/status.json",
    ask(async (client) => {
      const answer = await client.call("Status", { verbose: true }, patienceMs);
      const { status, info } = runtime.v1.StatusResponse.toObject(answer, options);
      return { status, info: JSON.parse(info["info"] ?? "{}") };
    }),
  );
  await add(
    "agent/activity.json",
    ask(async (client) => JSON.parse((await client.call("ListRecentActivity", {}, patienceMs)).json)),
  );
  await add(
    "agent/leaks.json",
    ask(async (client) => (await client.call("FindLeaks", {}, patienceMs)).leaks),
  );
  await add(
    "agent/pods.json",
    ask(async (client) => {
      const { items } = await client.call("ListPodSandbox", {}, patienceMs);
      // labels and annotations may have anything in them
      return items.map(({ id, metadata, state, created_at, runtime_handler }) => ({
        ...{ id, namespace: metadata?.namespace, name: metadata?.name, attempt: metadata?.attempt },
        ...{ state: runtime.v1.PodSandboxState[state ?? 0], created_at: String(created_at ?? ""), runtime_handler },
      }));
    }),
  );
  await add(
    "agent/containers.json",
    ask(async (client) => {
      const { containers } = await client.call("ListContainers", {}, patienceMs);
      return containers.map(({ id, pod_sandbox_id, metadata, image_id, state, created_at }) => ({
        ...{ id, pod_sandbox_id, name: metadata?.name, attempt: metadata?.attempt, image_id },
        ...{ state: runtime.v1.ContainerState[state ?? 0], created_at: String(created_at ?? "") },
      }));
    }),
  );
  await add(
    "agent/images.json",
    ask(async (client) => {
      const { images } = await client.call("ListImages", {}, patienceMs);
      return images.map(({ id, repo_tags, size, pinned }) => ({ id, repo_tags, size: String(size ?? ""), pinned }));
    }),
  );
  if (metrics === null) return;
  await add("agent/metrics.txt", async () => {
    const scraper = new Scraper("path" in metrics ? `unix://${metrics.path}` : urlOf(metrics));
    try {
      return (await scraper.scrape(AbortSignal.timeout(patienceMs))).slice(0, mostBytes);
    } finally {
      await scraper.close();
    }
  });
}

function urlOf({ host, port }: { host: string; port: number }): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}/metrics`;
}

/** Values and where each comes from; an agent's flags are not seen from here, status.json has what it goes by. */
function configuration(file: string | undefined): Record<string, unknown> {
  const written = mergeConfigTexts(readConfigTexts(file ?? defaultConfigFile, file === undefined));
  return Object.fromEntries(
    Object.entries(settingValues({}, written)).map(([name, value]) => [
      name,
      { value, origin: written.placeOf([name]) ?? "default" },
    ]),
  );
}

function configurationFiles(file = defaultConfigFile): string[] {
  try {
    return [file, ...dropIns(file)].filter((path) => existsSync(path));
  } catch {
    return [];
  }
}

/** Names only: hosts.toml files have headers with credentials. */
async function registryFiles({ registries }: Config): Promise<string[]> {
  const lists = await Promise.all(
    registries.map(async (directory) =>
      (await readdir(directory).catch((): string[] => [])).map((name) => join(directory, name)),
    ),
  );
  return lists.flat();
}

/** Node's own have the agent's whole environment in them. */
function crashReport(text: string): unknown {
  try {
    const { environmentVariables: _, ...report } = JSON.parse(text) as Record<string, unknown>;
    return report;
  } catch {
    return text;
  }
}

async function monitorLogs({ run: directory }: Config): Promise<string[]> {
  const pods = join(directory, "pods");
  const names = await readdir(pods).catch((): string[] => []);
  return names.map((name) => join(pods, name, "monitor.log")).filter((path) => existsSync(path));
}

/** Undefined: there is no journal here. */
async function journal(): Promise<string | undefined> {
  const args = [
    "-u",
    "berth.service",
    "-u",
    "berth-kube.service",
    "-n",
    String(journalLines),
    "-o",
    "short-iso",
    "--no-pager",
  ];
  try {
    const { stdout } = await run("journalctl", args, { maxBuffer: 64 * 1024 * 1024, timeout: patienceMs });
    return stdout.length > mostBytes ? wholeLines(stdout.slice(-mostBytes)) : stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** What is left of a line tells nobody that it was a password. */
function wholeLines(tail: string): string {
  return tail.slice(tail.indexOf("\n") + 1);
}

/** The last bytes: what a log is read for. Files of /proc have no size. */
async function readTail(path: string, most = mostBytes): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size === 0) return (await file.readFile("utf8")).slice(0, most);
    const { buffer, bytesRead } = await file.read(
      Buffer.alloc(Math.min(size, most)),
      0,
      Math.min(size, most),
      Math.max(0, size - most),
    );
    const text = buffer.subarray(0, bytesRead).toString("utf8");
    return size > most ? wholeLines(text) : text;
  } finally {
    await file.close();
  }
}
