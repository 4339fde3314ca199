/** What an agent may find on a machine that is in a bad way: /etc that cannot be written, no more processes, no more memory. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { makeFileSystem } from "../support/file-systems.js";
import { until } from "../support/until.js";
import { WebSocketClient } from "../support/websocket-client.js";
import {
  createContainer,
  fails,
  importBusybox,
  out,
  podStatus,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const cgroups = openCgroupManager();
const placeOf = (controller: string) =>
  cgroups.hierarchies.find(({ controllers }) => controllers.includes(controller))?.mountPoint;

/** Has the agent live in a cgroup of its own, whose file is written, until `run` ends. */
async function confined(
  agent: TestAgent,
  controller: string,
  [file, value]: readonly [string, string],
  run: () => Promise<void>,
): Promise<void> {
  const root = placeOf(controller) ?? "";
  const path = `/berth-test-confined-${process.pid}-${controller}`;
  await cgroups.create(path, {});
  try {
    writeFileSync(join(root, path, file), value);
    writeFileSync(join(root, path, "cgroup.procs"), String(agent.pid));
    await run();
  } finally {
    // a killed agent is in no cgroup any more
    try {
      writeFileSync(join(root, "cgroup.procs"), String(agent.pid));
    } catch {
      // it has ended
    }
    await cgroups.remove(path);
  }
}

function lacks(controller: string): string | false {
  const place = cgroups.hierarchies.find(({ controllers }) => controllers.includes(controller));
  if (place === undefined) return `the cgroup controller ${controller} is missing`;
  return place.version === 2 && "on cgroup v2 the agent cannot be moved out of where its controllers are handed down";
}

describe("a machine in a bad way", () => {
  it("/etc that cannot be written is no trouble", async () => {
    const script = 'mount --bind /etc /etc && mount -o remount,bind,ro /etc && ! touch /etc/x 2>/dev/null && exec "$@"';
    const agent = await startAgent({ wrapper: ["unshare", "-m", "--propagation=slave", "sh", "-c", script, "sh"] });
    try {
      await importBusybox(agent);
      const pod = await runPod(agent);
      assert.equal(
        await out(agent, await runContainer(agent, pod, sh("sleep 1000")), "cat /etc/hostname"),
        pod.config.hostname,
      );
      assert.doesNotMatch(agent.logs(), /EROFS/);
      await removePod(agent, pod);
    } finally {
      await agent.stop();
    }
  });

  it("where cgroups are no longer mounted calls fail with a sentence, and are answered again when they are back", async () => {
    const agent = await startAgent({ wrapper: ["unshare", "-m", "--propagation=slave"] });
    const inItsNamespace = (...command: string[]) =>
      execFileSync("nsenter", [`--target=${agent.pid}`, "--mount", ...command]);
    try {
      await importBusybox(agent);
      const pod = await runPod(agent);
      const container = await runContainer(agent, pod, sh("sleep 1000"));
      // another network namespace's, for the same one cannot be mounted twice: in its empty /sys/fs/cgroup nothing can be made
      inItsNamespace("unshare", "-n", "mount", "-t", "sysfs", "none", "/sys");
      try {
        // more than Node has threads for what waits
        for (let i = 0; i < 6; i++)
          await fails(runPod(agent), "FAILED_PRECONDITION", /cgroup .* cannot be made: mkdir .*ENOENT/);
      } finally {
        inItsNamespace("umount", "/sys");
      }
      assert.equal(await out(agent, container, "echo runs"), "runs");
      await removePod(agent, await runPod(agent));
      await removePod(agent, pod);
    } finally {
      await agent.stop();
    }
  });

  it("a log that cannot be written, because its disk is full, is no trouble, and goes on when there is room", async () => {
    const disk = makeFileSystem("tmpfs", 1);
    const log = join(disk.path, "log");
    assert.throws(() => writeFileSync(log, Buffer.alloc(2 * 1024 * 1024)), /ENOSPC/);
    const agent = await startAgent({ wrapper: ["sh", "-c", `exec "$@" 2>>${log}`, "sh"] });
    try {
      await importBusybox(agent);
      for (let i = 0; i < 20; i++) await removePod(agent, await runPod(agent));
      assert.doesNotMatch(readFileSync(log, "utf8"), /RunPodSandbox/);
      truncateSync(log, 0);
      await runPod(agent);
      const lines = readFileSync(log, "utf8").trimEnd().split("\n");
      assert.match(lines.at(-1) ?? "", /"method":"RunPodSandbox"/);
      for (const line of lines) JSON.parse(line);
    } finally {
      await agent.stop();
      await disk.close();
    }
  });

  it("where no descriptor is left calls are RESOURCE_EXHAUSTED with the limit's name, and pods keep their network", async () => {
    const agent = await startAgent();
    const limitTo = (count: number) => execFileSync("prlimit", ["--pid", String(agent.pid), `--nofile=${count}:`]);
    try {
      await importBusybox(agent);
      const pod = await runPod(agent);
      const usual = /^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${agent.pid}/limits`, "utf8"))?.[1];
      const sentences = new Set<string>();
      for (let room = 0; room < 12; room++) {
        for (const begin of [() => createContainer(agent, pod), () => runPod(agent).then((begun) => begun.id)]) {
          const used = new Set(readdirSync(`/proc/${agent.pid}/fd`).map(Number));
          let limit = 0;
          for (let free = 0; free < room || used.has(limit); limit++) if (!used.has(limit)) free++;
          limitTo(limit);
          const { conditions } = (await agent.client.call("Status", {}).catch(() => ({ status: null }))).status ?? {};
          assert.ok(conditions?.[0]?.status ?? true, JSON.stringify(conditions));
          const begun = await begin().catch(({ code, details }: { code: number; details: string }) => {
            assert.equal(code, status.RESOURCE_EXHAUSTED, details);
            sentences.add(details);
            return undefined;
          });
          limitTo(Number(usual));
          if (begun === undefined) continue;
          await agent.client.call("RemoveContainer", { container_id: begun });
          await agent.client.call("RemovePodSandbox", { pod_sandbox_id: begun });
        }
      }
      assert.ok(sentences.size >= 4, [...sentences].join("\n"));
      for (const sentence of sentences) assert.match(sentence, /as many (?:open files|descriptors) as (?:it|they) may/);
      assert.equal((await podStatus(agent, (await runPod(agent)).id)).network?.ip?.startsWith("10."), true);
    } finally {
      await agent.stop();
    }
  });

  it("where no descriptor is left a stream fails with a sentence, and its pod runs on", async () => {
    const agent = await startAgent();
    const descriptors = () => new Set(readdirSync(`/proc/${agent.pid}/fd`).map(Number));
    const limitTo = (count: number) => execFileSync("prlimit", ["--pid", String(agent.pid), `--nofile=${count}:`]);
    /** numbers have holes among them; the kernel gives the least one that is free */
    const leaveRoomFor = (room: number) => {
      const used = descriptors();
      let limit = 0;
      for (let free = 0; free < room || used.has(limit); limit++) if (!used.has(limit)) free++;
      limitTo(limit);
    };
    try {
      await importBusybox(agent);
      const pod = await runPod(agent);
      const container_id = await runContainer(agent, pod, sh("sleep 1000"));
      const usual = /^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${agent.pid}/limits`, "utf8"))?.[1];
      const told = new Set<string>();
      for (const method of ["Exec", "Attach"] as const) {
        for (let room = 0; room < 6; room++) {
          const request = { container_id, cmd: ["sleep", "778"], stdout: true, stderr: true };
          const { url } = await agent.client.call(method, request);
          leaveRoomFor(room);
          const client = await WebSocketClient.open(url).catch(() => null);
          if (client !== null) {
            await until(() => client.closeCode !== 0 || client.received.has(1));
            told.add(client.text(3));
            client.destroy();
          }
          limitTo(Number(usual));
        }
      }
      assert.match([...told].join(), /as many descriptors as it may/);
      assert.equal(await out(agent, container_id, "echo here"), "here");
      await removePod(agent, pod);
    } finally {
      await agent.stop();
    }
  });

  it("where no process can be made a pod fails with a sentence, and leaves nothing", {
    skip: lacks("pids"),
  }, async () => {
    const agent = await startAgent();
    try {
      await importBusybox(agent);
      const pod = await runPod(agent);
      const container = await runContainer(agent, pod, sh("sleep 1000"));
      const threads = readdirSync(`/proc/${agent.pid}/task`).length;
      await confined(agent, "pids", ["pids.max", String(threads)], async () => {
        await fails(runPod(agent), "RESOURCE_EXHAUSTED", /EAGAIN.*: no more processes can be made: .*TasksMax/);
        assert.equal((await agent.client.call("ListPodSandbox", {})).items.length, 1);
        // what runs has its processes elsewhere
        assert.equal(await out(agent, container, "echo here"), "here");
      });
      await removePod(agent, await runPod(agent));
    } finally {
      await agent.stop();
    }
  });

  it("an agent that the kernel kills for memory has lost nothing", { skip: lacks("memory") }, async () => {
    const agent = await startAgent();
    try {
      await importBusybox(agent);
      const pod = await runPod(agent);
      const container = await runContainer(agent, pod, sh("sleep 1000"));
      const { pid } = agent;
      await confined(agent, "memory", ["memory.limit_in_bytes", String(8 * 1024 * 1024)], async () => {
        const calls = Array.from({ length: 8 }, () => runPod(agent, { annotations: { a: "x".repeat(1_900_000) } }));
        await Promise.allSettled(calls);
        await until(() => !agent.isAlive());
      });
      assert.equal(agent.pid, pid);
      await agent.restart();
      assert.equal(await out(agent, container, "echo here"), "here");
      const { items } = await agent.client.call("ListPodSandbox", {});
      assert.ok(items.every(({ id, state }) => id === pod.id || state === 0));
    } finally {
      await agent.stop();
    }
  });
});
