/** A PID namespace of the whole pod has an init, and /proc/1/root of it is no way to the host. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { exec, NamespaceMode, out, runContainer, runPod } from "../support/workload.js";
import { attackTarget } from "./support.js";

const target = attackTarget();

const contexts = {
  "the default capabilities": {},
  "all capabilities": { capabilities: { add_capabilities: ["ALL"] }, seccomp: { profile_type: 1 } },
  "all privileges": { privileged: true },
};

for (const [what, context] of Object.entries(contexts)) {
  test(`with ${what}: an empty root, no descriptors, no memory of the host's`, async () => {
    const { agent, canary } = target;
    const pod = await runPod(agent, { linux: { security_context: { privileged: what === "all privileges" } } });
    const security_context = { ...context, namespace_options: { pid: NamespaceMode.POD } };
    const id = await runContainer(agent, pod, { linux: { security_context } });
    const pids = (await out(agent, id, "ls /proc")).split("\n").filter((name) => /^\d+$/.test(name));
    assert.ok(pids.includes("1"));
    const tried = await exec(
      agent,
      id,
      `for p in /proc/1/root /proc/1/cwd /proc/1/root/../.. /proc/1/fd; do ls -a $p 2>/dev/null | grep -v '^\\.*$' | sed "s,^,$p: ,"; done
       cat /proc/1/root${canary.directory}/secret /proc/1/cwd${canary.directory}/secret
       cat /proc/1/environ /proc/1/maps
       touch /proc/1/root/x && echo WRITABLE
       chroot /proc/1/root /bin/sh -c 'echo ENTERED'`,
    );
    assert.ok(!/: .+/.test(tried.stdout.replace(/^\S+-\S+ .*$/gm, "")), tried.stdout);
    assert.ok(!/WRITABLE|ENTERED/.test(tried.stdout), tried.stdout);
    assert.ok(!tried.stdout.includes(canary.secret));
    for (const name of readdirSync("/").filter((name) => !["proc", "dev", "sys"].includes(name))) {
      assert.ok(!new RegExp(`^/proc/1/\\S+: ${name}$`, "m").test(tried.stdout), tried.stdout);
    }
  });

  test(`with ${what}: the init cannot be killed from inside, or be made something else`, async () => {
    const { agent } = target;
    const pod = await runPod(agent, { linux: { security_context: { privileged: what === "all privileges" } } });
    const security_context = { ...context, namespace_options: { pid: NamespaceMode.POD } };
    const id = await runContainer(agent, pod, { linux: { security_context } });
    await exec(agent, id, "kill -9 1; kill -TERM 1; kill -SEGV 1; kill -STOP 1; sleep 0.1");
    assert.equal(await out(agent, id, "echo alive"), "alive");
    const status = await out(agent, id, "cat /proc/1/status");
    assert.match(status, /^CapEff:\s+0000000000000000$/m);
    assert.match(status, /^CapBnd:\s+0000000000000000$/m);
    assert.match(status, /^Seccomp:\s+2$/m);
    assert.match(status, /^NoNewPrivs:\s+1$/m);
  });
}
