/** Programs that an OCI runtime finds wanting: told as with Berth's own launcher, at the start and not at the creation. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  bundlesOf,
  ContainerState,
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  out,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";

const scratch = mkdtempSync(join(tmpdir(), "berth-oci-"));
const candidates = { runc: "/usr/sbin/runc", crun: "/usr/bin/crun" };
let agent: TestAgent;

before(async () => {
  const config = join(scratch, "config.toml");
  const tables = Object.entries(candidates).map(([name, path]) => `[runtimes.${name}]\npath = "${path}"\n`);
  writeFileSync(config, tables.join(""));
  agent = await startAgent({ flags: { config } });
  await importBusybox(agent);
});

after(async () => {
  await agent.stop();
  rmSync(scratch, { recursive: true });
});

const runPodOf = (handler: string) => runPod(agent, {}, handler);

for (const [handler, path] of Object.entries(candidates)) {
  const skip = existsSync(path) ? false : `${path} is not installed`;
  describe(`by the runtime ${handler}`, { skip }, () => {
    let pod: RunningPod;
    let id: string;

    before(async () => {
      pod = await runPodOf(handler);
      id = await runContainer(agent, pod);
    });

    test("exec of what is not there, or may not be executed, is the request's fault and names it", async () => {
      const cases: [string, RegExp][] = [
        ["no-such-program", /^cmd: .*execve "no-such-program": ENOENT/],
        ["/no/such", /^cmd: .*execve "\/no\/such": ENOENT/],
        ["/etc/passwd", /^cmd: .*execve "\/etc\/passwd": EACCES/],
        ["/etc", /^cmd: .*execve "\/etc": E/],
        ['/no/"such\\ one', /^cmd: .*execve "\/no\/\\"such\\\\ one": ENOENT/],
      ];
      for (const [program, sentence] of cases) await fails(exec(agent, id, [program]), "INVALID_ARGUMENT", sentence);
      assert.equal(await out(agent, id, ["echo", "alive"]), "alive");
    });

    const unstartable: [string, runtime.v1.IContainerConfig, string][] = [
      ["is missing", { command: ["no-such-program"] }, 'config.command: .*execve "no-such-program": ENOENT'],
      ["is missing at its path", { args: ["/no/such"], command: [] }, 'config.args: .*execve "/no/such": ENOENT'],
      ["may not be executed", { command: ["/etc/passwd"] }, 'config.command: .*execve "/etc/passwd": EACCES'],
      ["is a directory", { command: ["/etc"] }, 'config.command: .*execve "/etc": E'],
      ["is below a file", { command: ["/etc/passwd/x"] }, 'config.command: .*execve "/etc/passwd/x": ENOTDIR'],
      [
        "has a file as its working directory",
        { working_dir: "/etc/passwd" },
        'config.working_dir: .*"/etc/passwd": ENOTDIR',
      ],
      ["is missing, with a terminal", { command: ["/no/such"], tty: true, stdin: true }, "config.command: .*ENOENT"],
    ];
    for (const [what, config, sentence] of unstartable) {
      test(`a program that ${what}: the start's error, StartError, 128`, async () => {
        const before = bundlesOf(agent, pod).length;
        const container_id = await createContainer(agent, pod, config);
        const created = await containerStatus(agent, container_id);
        assert.equal(created.state, ContainerState.CONTAINER_CREATED);
        const start = () => agent.client.call("StartContainer", { container_id });
        await fails(start(), "INVALID_ARGUMENT", new RegExp(`^${sentence}`));
        const status = await containerStatus(agent, container_id);
        assert.deepEqual([status.exit_code, status.reason], [128, "StartError"]);
        assert.equal(status.state, ContainerState.CONTAINER_EXITED);
        assert.match(status.message ?? "", new RegExp(`^${sentence}`));
        assert.equal(String(status.started_at), "0");
        await fails(start(), "FAILED_PRECONDITION", /exited/);
        await agent.client.call("RemoveContainer", { container_id });
        assert.equal(bundlesOf(agent, pod).length, before);
      });
    }

    test("one that cannot be started, and is not: kill -9 of the agent, stop, update, removal, the pod's stop", async () => {
      const missing = { command: ["no-such-program"] };
      const source = join(agent.paths.base, `missing-${handler}`);
      mkdirSync(source);
      const propagation = runtime.v1.MountPropagation.PROPAGATION_BIDIRECTIONAL;
      const mounts = [{ host_path: source, container_path: "/volume", propagation }];
      assert.equal(spawnSync("mount", ["-t", "tmpfs", "none", source]).status, 0);
      try {
        assert.equal(spawnSync("mount", ["--make-rshared", source]).status, 0);
        const other = await runPodOf(handler);
        const ids = await Promise.all(["a", "b", "c"].map(() => createContainer(agent, other, { ...missing, mounts })));
        const [started = "", removed = "", stopped = ""] = ids;
        await agent.kill9();
        await agent.restart();
        for (const one of ids) {
          assert.equal((await containerStatus(agent, one)).state, ContainerState.CONTAINER_CREATED);
        }
        const linux = { cpu_shares: long(256) };
        const update = agent.client.call("UpdateContainerResources", { container_id: started, linux });
        await fails(update, "FAILED_PRECONDITION", /not running/);
        await fails(exec(agent, started, ["true"]), "FAILED_PRECONDITION", /not running/);
        await agent.client.call("ContainerStats", { container_id: started });
        assert.equal((await agent.client.call("ListContainerStats", {})).stats.length > 0, true);
        assert.deepEqual(
          (await agent.client.call("FindLeaks", {})).leaks.filter(({ ours }) => ours),
          [],
        );
        await agent.client.call("StopContainer", { container_id: stopped });
        assert.equal((await containerStatus(agent, stopped)).state, ContainerState.CONTAINER_CREATED);
        await agent.client.call("RemoveContainer", { container_id: removed });
        const start = agent.client.call("StartContainer", { container_id: started });
        await fails(start, "INVALID_ARGUMENT", /no-such-program/);
        assert.equal((await containerStatus(agent, started)).reason, "StartError");
        await agent.client.call("StopPodSandbox", { pod_sandbox_id: other.id });
        const { state, exit_code } = await containerStatus(agent, stopped);
        assert.deepEqual([state, exit_code], [ContainerState.CONTAINER_EXITED, 137]);
        await removePod(agent, other);
      } finally {
        spawnSync("umount", ["-R", source]);
      }
    });

    test("after the pod is removed nothing is left", async () => {
      await removePod(agent, pod);
      await agent.assertNothingLeft();
    });
  });
}
