import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Container } from "../sandbox/container.js";
import type { Pod } from "../sandbox/pod.js";
import { parseIoStat, parseThrottle } from "./device-io.js";
import { negotiate } from "./negotiation.js";
import { type Subject, subjectLabels } from "./subjects.js";
import { labelText, type TextFormat, writeText } from "./text.js";

const subject: Subject = {
  pod: {} as Pod,
  container: { record: { startedAt: "1700000000250000000", spec: null } } as Container,
  labels: ["web", "/a/b", "img", "c1", 'the "default"\nof\\all', "p\0"],
  cgroup: { timestamp: 5e9, cpuUsageNs: 1_500_000_000, memoryFailures: 3, pageFaults: 7, cpuSomeNs: 2_500_000_000 },
  io: [{ major: "8", minor: "0", device: "/dev/sda", readBytes: 10, writtenBytes: 20, reads: 1, writes: 2 }],
};

async function pieces(subjects: readonly Subject[], rest: string, format: TextFormat): Promise<Buffer[]> {
  const labels = ({ labels }: Subject) => labelText(subjectLabels, labels);
  const all: Buffer[] = [];
  for await (const piece of writeText(subjects, labels, async () => rest, format)) all.push(Buffer.from(piece));
  return all;
}

async function written(subjects: readonly Subject[], openMetrics: boolean): Promise<string> {
  return Buffer.concat(await pieces(subjects, "", { openMetrics, gzip: false })).toString();
}

describe("the text of metrics", () => {
  const labels = String.raw`container="web",id="/a/b",image="img",name="c1",namespace="the \"default\"\nof\\all",pod="p�"`;

  it("has a line for each value, and none for what is not known", async () => {
    const text = await written([subject], false);
    assert.ok(text.includes(`# TYPE container_cpu_usage_seconds_total counter\n`));
    assert.ok(text.includes(`container_cpu_usage_seconds_total{${labels},cpu="total"} 1.5\n`));
    assert.ok(text.includes(`container_memory_failures_total{${labels},failure_type="pgfault",scope="hierarchy"} 7\n`));
    assert.ok(text.includes(`container_fs_writes_bytes_total{${labels},device="/dev/sda"} 20\n`));
    assert.ok(text.includes(`container_pressure_cpu_waiting_seconds_total{${labels}} 2.5\n`));
    assert.ok(text.includes(`{${labels},device="/dev/sda",major="8",minor="0",operation="Read"} 10\n`));
    assert.ok(!text.includes("container_memory_rss"));
    assert.ok(!text.includes("container_network"));
  });

  it("is the same compressed, whatever its length, with what follows at its end", async () => {
    for (const count of [0, 1, 40, 2000]) {
      const subjects = Array.from({ length: count }, (_, index) => ({ ...subject, labels: [`c${index}`] }));
      const rest = `# EOF ${"x".repeat(count * 100)}\n`;
      const plain = Buffer.concat(await pieces(subjects, rest, { openMetrics: true, gzip: false })).toString();
      const compressed = await pieces(subjects, rest, { openMetrics: true, gzip: true });
      assert.equal(gunzipSync(Buffer.concat(compressed)).toString(), plain);
      assert.ok(plain.endsWith(rest));
      if (count === 2000) assert.ok(compressed.length > 1);
    }
  });

  it("calls OpenMetrics' counters without _total, and what is none unknown", async () => {
    const text = await written([subject], true);
    assert.ok(text.includes(`# TYPE container_cpu_usage_seconds counter\n`));
    assert.ok(text.includes(`container_cpu_usage_seconds_total{${labels},cpu="total"} 1.5\n`));
    assert.ok(text.includes(`# TYPE container_memory_failcnt unknown\n`));
  });

  it("of a thousand keeps nobody waiting", async () => {
    let turns = 0;
    let last = performance.now();
    let longest = 0;
    const timer = setInterval(() => {
      turns++;
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 1);
    const text = await written(Array(1000).fill(subject), false);
    clearInterval(timer);
    assert.equal(
      text.split("\n").filter((line) => line.startsWith("# TYPE")).length,
      new Set(text.match(/# TYPE \S+/g)).size,
    );
    assert.ok(turns > 1, `${turns} turns, the longest ${longest} ms`);
  });
});

describe("negotiation", () => {
  it("follows the headers of Prometheus, and of people", () => {
    const prometheus =
      "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert.deepEqual(negotiate(prometheus, "gzip"), { openMetrics: true, gzip: true });
    assert.deepEqual(negotiate(undefined, undefined), { openMetrics: false, gzip: false });
    assert.deepEqual(negotiate("text/html,*/*;q=0.8", "gzip, deflate, br"), { openMetrics: false, gzip: true });
    assert.deepEqual(negotiate("text/plain, application/openmetrics-text;q=0.3", "gzip;q=0"), {
      openMetrics: false,
      gzip: false,
    });
  });
});

describe("device IO", () => {
  const io = { major: "254", minor: "0", readBytes: 1, writtenBytes: 2, reads: 3, writes: 4 };
  const same = (devices: ReturnType<typeof parseIoStat>) => devices.map(({ device: _, ...rest }) => rest);

  it("is the same from v1's files and v2's", () => {
    assert.deepEqual(same(parseIoStat("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n")), [io]);
    const bytes = "254:0 Read 1\n254:0 Write 2\n254:0 Sync 3\n254:0 Total 3\nTotal 3\n";
    assert.deepEqual(same(parseThrottle(bytes, "254:0 Read 3\n254:0 Write 4\nTotal 7\n")), [io]);
    assert.deepEqual(parseThrottle("Total 0\n", "Total 0\n"), []);
    assert.deepEqual(parseIoStat(""), []);
  });
});
