/** A real Prometheus (Debian's) on a free loopback port, that scrapes every second and evaluates rules as often. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./agent.js";

export interface TestPrometheus {
  /** the result of an instant query; an Error has Prometheus' own words */
  query(expression: string): Promise<PrometheusSample[]>;
  /** where it takes remote writes */
  writeUrl: string;
  stop(): Promise<void>;
}

export interface PrometheusSample {
  metric: Record<string, string>;
  value: number;
}

const startTimeoutMs = 60_000;

/** What this machine lacks for it, or undefined. */
export function whatPrometheusLacks(): string | undefined {
  const missing = ["/usr/bin/prometheus", "/usr/bin/promtool"].find((path) => !existsSync(path));
  return missing && `${missing} is not installed`;
}

/** `target` is HOST:PORT of the job "berth"; without one it scrapes nothing. */
export async function startPrometheus(options: { target?: string; rules?: string }): Promise<TestPrometheus> {
  const { target, rules } = options;
  const directory = await mkdtemp("/tmp/berth-prometheus-");
  const address = `127.0.0.1:${await freePort()}`;
  const config = {
    global: { scrape_interval: "1s", evaluation_interval: "1s" },
    rule_files: rules === undefined ? [] : [rules],
    scrape_configs: target === undefined ? [] : [{ job_name: "berth", static_configs: [{ targets: [target] }] }],
  };
  // JSON is YAML
  await writeFile(join(directory, "prometheus.yml"), JSON.stringify(config));
  const child = spawn(
    "/usr/bin/prometheus",
    [
      `--config.file=${directory}/prometheus.yml`,
      `--storage.tsdb.path=${directory}/data`,
      `--web.listen-address=${address}`,
      "--web.enable-remote-write-receiver",
      "--log.level=warn",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let complaints = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-4000);
  });
  const stop = async (): Promise<void> => {
    await end(child);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    for (const until = Date.now() + startTimeoutMs; !(await isReady(address)); await sleep(50)) {
      if (child.exitCode !== null) throw new Error(`prometheus ended with ${child.exitCode}: ${complaints}`);
      if (Date.now() > until) throw new Error(`prometheus is not ready: ${complaints}`);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    async query(expression) {
      const answer = await fetch(`http://${address}/api/v1/query?query=${encodeURIComponent(expression)}`);
      const { data, error } = (await answer.json()) as QueryAnswer;
      if (data === undefined) throw new Error(`${expression}: ${error}`);
      return data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
    },
    writeUrl: `http://${address}/api/v1/write`,
    stop,
  };
}

interface QueryAnswer {
  data?: { result: { metric: Record<string, string>; value: [number, string] }[] };
  error?: string;
}

function isReady(address: string): Promise<boolean> {
  return fetch(`http://${address}/-/ready`).then(
    ({ ok }) => ok,
    () => false,
  );
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exited;
}
