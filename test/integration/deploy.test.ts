/** What deploy/ has for Prometheus and Grafana, against a real Prometheus that scrapes a real agent. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parseAllDocuments } from "yaml";
import { startAgent, type TestAgent } from "../support/agent.js";
import { startPrometheus, type TestPrometheus, whatPrometheusLacks } from "../support/prometheus.js";
import { importBusybox, long, removePod, runContainer, runPod, sh } from "../support/workload.js";

const run = promisify(execFile);
const deploy = fileURLToPath(new URL("../../../deploy", import.meta.url));
const rulesFile = join(deploy, "prometheus/berth-rules.yml");
const megabyte = 1024 * 1024;

interface Dashboard {
  panels: { title: string; targets?: { expr: string }[] }[];
}
interface Rules {
  groups: { rules: { record?: string; alert?: string; expr: string }[] }[];
}

describe("deploy/", { skip: whatPrometheusLacks() ?? false }, () => {
  for (const args of [
    ["check", "config", "prometheus/prometheus.yml"],
    ["check", "rules", "prometheus/berth-rules.yml"],
    ["test", "rules", "prometheus/berth-rules.test.yml"],
  ]) {
    test(`promtool ${args.join(" ")}`, async () => void (await run("/usr/bin/promtool", args, { cwd: deploy })));
  }

  test("every alert has a test", () => {
    const { groups } = read(rulesFile) as Rules;
    const tests = readFileSync(join(deploy, "prometheus/berth-rules.test.yml"), "utf8");
    const alerts = groups.flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? []));
    assert.deepEqual(
      alerts.filter((alert) => !tests.includes(`alertname: ${alert}`)),
      [],
    );
  });

  test("pod-monitor.yml has a stand-in on the agent's port, and asks it", () => {
    const [daemonSet, monitor] = parseAllDocuments(
      readFileSync(join(deploy, "prometheus/pod-monitor.yml"), "utf8"),
    ).map((document) => document.toJS());
    assert.deepEqual(daemonSet.spec.template.spec.containers[0].ports[0], {
      name: "metrics",
      containerPort: 9464,
      hostPort: 9464,
    });
    assert.deepEqual(monitor.spec.selector.matchLabels, daemonSet.spec.template.metadata.labels);
    assert.equal(monitor.spec.podMetricsEndpoints[0].port, "metrics");
  });
});

describe("a real Prometheus", { skip: whatPrometheusLacks() ?? false }, () => {
  let agent: TestAgent;
  let prometheus: TestPrometheus;
  const through = new AbortController();
  let coming: Promise<void>;

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    prometheus = await startPrometheus({ target: new URL(agent.metricsUrl).host, rules: rulesFile });
    const pod = await runPod(agent);
    // asks for twice its memory again and again, and for more CPU time than it gets
    await runContainer(agent, pod, {
      ...sh("while :; do tail -c 200m /dev/zero; sleep 0.2; done"),
      linux: {
        resources: { memory_limit_in_bytes: long(100 * megabyte), cpu_period: long(10_000), cpu_quota: long(3_000) },
      },
    });
    // rates are of what goes on
    coming = (async () => {
      for (; !through.signal.aborted; await sleep(500)) await removePod(agent, await runPod(agent));
    })();
  });
  after(async () => {
    through.abort();
    await coming;
    await prometheus?.stop();
    await agent?.stop();
  });

  test("shows a container that asks for 200 MiB of its 100: at the limit, never over it, and killed for it", async () => {
    await untilTold("increase(container_oom_events_total[30s]) > 0");
    await untilTold("max_over_time(container_memory_usage_bytes[1m]) > 50e6");
    assert.deepEqual(await prometheus.query(`max_over_time(container_memory_usage_bytes[1m]) > ${100 * megabyte}`), []);
    const [limit] = await prometheus.query("container_spec_memory_limit_bytes > 0");
    assert.equal(limit?.value, 100 * megabyte);
  });

  test("has an answer to each query of the dashboard", async () => {
    const { panels } = read(join(deploy, "grafana/berth.json")) as Dashboard;
    const queries = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    assert.ok(queries.length > 20);
    for (const query of queries) await untilTold(filledIn(query));
  });

  test("has a value for each recording rule", async () => {
    const { groups } = read(rulesFile) as Rules;
    const records = groups.flatMap(({ rules }) => rules.flatMap(({ record }) => record ?? []));
    assert.ok(records.length >= 7);
    // a failed call is needed for one of them
    await assert.rejects(agent.client.call("ContainerStatus", { container_id: "none" }));
    for (const record of records) await untilTold(record);
  });

  async function untilTold(query: string): Promise<void> {
    for (const until = Date.now() + 60_000; (await prometheus.query(query)).length === 0; await sleep(250)) {
      assert.ok(Date.now() < until, `no answer to ${query}`);
    }
  }
});

/** As Grafana fills its variables in, with all namespaces and pods chosen. */
function filledIn(query: string): string {
  return query.replaceAll("$__rate_interval", "30s").replaceAll(/\$(namespace|pod)\b/g, ".*");
}

function read(path: string): unknown {
  return parseAllDocuments(readFileSync(path, "utf8"))[0]?.toJS();
}
