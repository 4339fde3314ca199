/** What containers mount below a bidirectional volume is on the host, too, as the kernel has it; and it leaves it again. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { native } from "../../native/binding.js";
import { mountPropagation } from "../../sandbox/mount-options.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  busyboxName,
  containerConfig,
  createContainer,
  importBusybox,
  long,
  type RunningPod,
  runContainer,
  runPod,
} from "../support/workload.js";

const runtimes = { runc: "/usr/sbin/runc", crun: "/usr/bin/crun" };
const privileged = { linux: { security_context: { privileged: true } } };
let agent: TestAgent;
/** mounted on itself on the host, shared with what it lies on */
let shared: string;
let content: string;
const mountedOnThemselves: string[] = [];

before(async () => {
  agent = await startAgent();
  const tables = Object.entries(runtimes).map(([name, path]) => `[runtimes.${name}]\npath = "${path}"\n`);
  writeFileSync(join(agent.paths.base, "config.toml"), tables.join(""));
  await agent.restart();
  await importBusybox(agent);
  const outer = join(agent.paths.base, "outer");
  shared = join(outer, "shared");
  content = join(agent.paths.base, "content");
  for (const path of [shared, content]) mkdirSync(path, { recursive: true });
  // as on a host whose root is shared, and whose kubelet's directory is mounted on itself
  await mountOnItself(outer);
  await mountOnItself(shared);
  for (const path of ["sub", "image", "masked"]) mkdirSync(join(shared, path));
  symlinkSync("sub", join(shared, "link"));
  mkdirSync(join(content, "deep"));
  writeFileSync(join(content, "file"), "");
});

after(async () => {
  try {
    for (const path of mountedOnThemselves.reverse()) await native.unmount(path);
  } finally {
    await agent.stop();
  }
});

async function mountOnItself(path: string): Promise<void> {
  const fd = await native.openTree({ path, recursive: false });
  await native.attachMount(fd, path);
  native.setMountAttributes(fd, { propagation: mountPropagation.rshared });
  native.closeDescriptor(fd);
  mountedOnThemselves.push(path);
}

/** Where something is mounted there, on the mount that is seen or on the one below it. */
function onHost(): string[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  const points = lines.map((line) => line.split(" ")[4] ?? "").filter((path) => path.startsWith(`${shared}/`));
  return [...new Set(points)];
}

const volume = { container_path: "/m", host_path: "", propagation: 2 };

for (const handler of ["", ...Object.keys(runtimes)]) {
  const path = runtimes[handler as keyof typeof runtimes];
  const skip = path === undefined || existsSync(path) ? false : `${path} is not installed`;
  describe(`below a bidirectional volume, by ${handler || "Berth's own launcher"}`, { skip }, () => {
    let pod: RunningPod;

    before(async () => {
      pod = await runPod(agent, privileged, handler);
    });

    afterEach(() => assert.deepEqual(onHost(), []));

    const withMounts = (...mounts: runtime.v1.IMount[]) => ({
      ...privileged,
      mounts: [{ ...volume, host_path: shared }, ...mounts],
    });

    test("it goes at the container's end, at each restart", async () => {
      for (let attempt = 0; attempt < 3; attempt++) {
        const id = await runContainer(agent, pod, {
          ...withMounts(
            { container_path: "/m/sub", host_path: content },
            { container_path: "/m/sub/deep", host_path: content },
          ),
          metadata: { name: "again", attempt },
        });
        // the OCI runtimes keep what is mounted below a private mount to the container
        const deep = handler === "" ? [join(shared, "sub", "deep")] : [];
        assert.deepEqual(onHost(), [join(shared, "sub"), ...deep]);
        await agent.client.call("StopContainer", { container_id: id, timeout: long(0) });
        for (let tries = 0; onHost().length > 0; tries++) {
          assert.ok(tries < 100, onHost().join("\n"));
          await sleep(10);
        }
      }
    });

    test("it goes with a container that was never started, images' volumes and what a link led astray, too", async () => {
      const id = await createContainer(
        agent,
        pod,
        withMounts(
          { container_path: "/m/image", image: { image: busyboxName }, readonly: true },
          { container_path: "/m/link", host_path: content },
        ),
      );
      assert.deepEqual(onHost().sort(), [join(shared, "image"), join(shared, "sub")]);
      await agent.client.call("RemoveContainer", { container_id: id });
    });

    test("a creation that fails leaves nothing of it", async () => {
      const failing = withMounts(
        { container_path: "/m/image", image: { image: busyboxName }, readonly: true },
        { container_path: "/m/link", host_path: content },
        { container_path: "/m/sub/deep/er", host_path: "/dev/null" },
        { container_path: "/m/sub/deep/er/still", host_path: content },
      );
      await assert.rejects(createContainer(agent, pod, failing));
    });

    test("kill -9 of the agent during a creation leaves nothing of it", async () => {
      const config = containerConfig(withMounts({ container_path: "/m/sub", host_path: content }));
      for (const laterMs of [0, 3]) {
        const question = { pod_sandbox_id: pod.id, config, sandbox_config: pod.config };
        const creation = agent.client.call("CreateContainer", question).catch(() => undefined);
        for (const until = Date.now() + 5_000; onHost().length === 0 && Date.now() < until; ) await sleep(0);
        await sleep(laterMs);
        await agent.kill9();
        await creation;
        await agent.restart();
        const { containers } = await agent.client.call("ListContainers", { filter: { pod_sandbox_id: pod.id } });
        for (const { id = "" } of containers) await agent.client.call("RemoveContainer", { container_id: id });
        assert.deepEqual(onHost(), [], `killed after ${laterMs} ms`);
      }
    });

    if (handler === "") {
      test("so do masks and read-only paths, of which those remain that are the host's", async () => {
        const fd = await native.openTree({ path: content, recursive: false });
        await native.attachMount(fd, join(shared, "sub"));
        native.closeDescriptor(fd);
        const more = { masked_paths: ["/m/masked", "/m/none"], readonly_paths: ["/m/image", "/m/sub"] };
        try {
          const id = await createContainer(agent, pod, {
            ...withMounts(),
            linux: { security_context: more },
          });
          assert.deepEqual(
            onHost().sort(),
            ["image", "masked", "sub"].map((name) => join(shared, name)),
          );
          await agent.client.call("RemoveContainer", { container_id: id });
          assert.deepEqual(onHost(), [join(shared, "sub")]);
        } finally {
          await native.unmount(join(shared, "sub"));
        }
      });
    }
  });
}
