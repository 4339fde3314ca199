/** Metrics: what Prometheus reads of a container, beside the kernel's own file. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { memoryDirectory, memoryFiles } from "./cgroups.js";
import { infoOf, removePods, runContainer, shortId, startPod } from "./pods.js";
import type { Demo } from "./setup.js";

interface Series {
  line: string;
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** What is shown of the several dozen. */
const shown = [
  "container_cpu_usage_seconds_total",
  "container_memory_usage_bytes",
  "container_memory_working_set_bytes",
  "container_memory_rss",
  "container_spec_memory_limit_bytes",
  "container_oom_events_total",
  "container_processes",
  "container_network_receive_bytes_total",
  "container_network_transmit_bytes_total",
];
const toleranceBytes = 1024 * 1024;
const keptBytes = 20 * 1024 * 1024;

export async function showMetrics(demo: Demo): Promise<void> {
  const { agent, screen } = demo;
  screen.title(
    "Metrics",
    "Prometheus asks a node for its metrics every few seconds: a page of text over HTTP, one line for each series, which " +
      "is a name, labels, and a number. Berth reads the cgroups' files when it is asked. The names and labels are " +
      "cAdvisor's, so that dashboards made for Kubernetes work as they are.",
  );
  const pod = await startPod(demo, "measured");
  const web = await runContainer(demo, pod, "web", {
    command: ["sh", "-c", "head -c 20m /dev/zero > /dev/shm/kept; exec httpd -f -p 80 -h /var/www"],
  });
  const { status } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id });
  const address = status?.network?.ip ?? "";
  await fetchPage(`http://${address}/`);
  const { cgroupPath } = await infoOf(demo, web);
  const { usage } = memoryFiles(memoryDirectory(cgroupPath));

  screen.say(
    `The container keeps a file of 20 MiB in memory, and the host has fetched its page from http://${address}/ once.`,
  );
  const scraped = (await scrape(agent.metricsUrl)).filter(({ labels }) => labels["pod"] === pod.name);
  const kernel = Number(readFileSync(usage, "utf8"));
  screen.lines([`$ curl -s ${agent.metricsUrl} | grep 'pod="${pod.name}"'`]);
  const memory = scraped.find(({ name }) => name === "container_memory_usage_bytes");
  screen.say("One of the lines, whole:");
  screen.lines(brokenAtLabels(memory?.line ?? ""));
  screen.say(`Some of the ${scraped.length} series of this pod:`);
  const chosen = shown.flatMap((name) => scraped.filter((series) => series.name === name));
  screen.table(
    ["series", "container", "value"],
    chosen.map(({ name, labels, value }) => [name, labels["container"] || "(the pod's)", String(value)]),
    agent.metricsUrl,
  );
  screen.values([["the same by the kernel", `${kernel} bytes`, usage]]);
  screen.crictl(`stats ${shortId(web)}`);
  screen.check(
    "every series that is shown here was there",
    shown.every((name) => chosen.some((series) => series.name === name)),
  );
  screen.check(
    "container_memory_usage_bytes is what the kernel's file says, the 20 MiB in it",
    memory !== undefined && Math.abs(memory.value - kernel) < toleranceBytes && memory.value >= keptBytes,
  );
  screen.check(
    "the labels name the pod, the container, the image and the cgroup",
    memory?.labels["namespace"] === "demo" &&
      memory.labels["container"] === web.name &&
      memory.labels["image"] === demo.imageName &&
      memory.labels["name"] === web.id &&
      memory.labels["id"] === cgroupPath,
  );
  screen.check(
    "the page's bytes were counted",
    chosen.some(({ name, value }) => name.includes("transmit") && value > 0),
  );

  screen.say("What Prometheus' configuration needs to scrape this agent:");
  screen.lines([
    "scrape_configs:",
    "  - job_name: berth",
    `    static_configs: [{ targets: ["${new URL(agent.metricsUrl).host}"] }]`,
  ]);
  await removePods(demo, [pod]);
  const rest = (await scrape(agent.metricsUrl)).filter(({ labels }) => labels["pod"] === pod.name);
  screen.check("with the pod, its series have gone", rest.length === 0);
}

async function scrape(url: string): Promise<Series[]> {
  const text = await (await fetch(url)).text();
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map(parseSeries);
}

/** Prometheus' text format; no label of the demo's has an escape in it. */
function parseSeries(line: string): Series {
  const [, name = "", labels = "", value = ""] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
  const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, label = "", text = ""]) => [label, text]);
  return { line, name, labels: Object.fromEntries(pairs) as Record<string, string>, value: Number(value) };
}

function brokenAtLabels(line: string): string[] {
  return line.replace("{", "{\n  ").replaceAll('",', '",\n  ').replace("}", "\n}").split("\n");
}

/** A started container is not yet a listening server. */
async function fetchPage(url: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await (await fetch(url)).arrayBuffer();
      return;
    } catch (error) {
      if (tries === 200) throw new Error(`${url} is not served`, { cause: error });
      await sleep(20);
    }
  }
}
