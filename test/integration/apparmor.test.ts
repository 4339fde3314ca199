/** AppArmor: the default profile, profiles of the node, none. On a kernel without it only what is refused. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { kernelFeatures } from "../../native/features.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  createContainer,
  exec,
  fails,
  hostPidOf,
  importBusybox,
  long,
  NamespaceMode,
  out,
  type RunningPod,
  runContainer,
  runPod,
  waitExited,
} from "../support/workload.js";

const { RuntimeDefault, Unconfined, Localhost } = runtime.v1.SecurityProfile.ProfileType;

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent, { linux: { security_context: { privileged: true } } });
});
after(() => agent.stop());

type Context = runtime.v1.ILinuxContainerSecurityContext;

const run = (context: Context, of = pod) => runContainer(agent, of, { linux: { security_context: context } });
const refused = (context: Context) => createContainer(agent, pod, { linux: { security_context: context } });
const loadedOnly = (localhost_ref: string): Context => ({ apparmor: { profile_type: Localhost, localhost_ref } });

const onKernel = { skip: kernelFeatures().apparmor ? false : "this machine's kernel has no AppArmor" };
const withoutKernel = { skip: kernelFeatures().apparmor ? "this machine's kernel has AppArmor" : false };

test("a kernel without AppArmor: who asks for a profile is refused, who does not runs", withoutKernel, async () => {
  const sentence = /config\.linux\.security_context\.apparmor.*this host's kernel has no AppArmor/;
  await fails(refused({ apparmor: { profile_type: RuntimeDefault } }), "FAILED_PRECONDITION", sentence);
  await fails(refused(loadedOnly("p")), "FAILED_PRECONDITION", sentence);
  await fails(refused({ apparmor_profile: "localhost/p" }), "FAILED_PRECONDITION", sentence);
  await fails(refused({ ...loadedOnly("p"), privileged: true }), "FAILED_PRECONDITION", sentence);
  for (const context of [{}, { apparmor: { profile_type: Unconfined } }, { apparmor_profile: "unconfined" }]) {
    assert.equal(await out(agent, await run(context), ["echo", "runs"]), "runs");
  }
});

describe("with AppArmor", onKernel, () => {
  const confined = `berth-test-${process.pid}`;
  const parse = (option: string, text: string) => {
    const { status, stderr } = spawnSync("apparmor_parser", [option, "--skip-cache"], {
      input: text,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
  };
  const profile = `profile ${confined} flags=(attach_disconnected) {
    file, capability, network, umount, signal,
    deny /tmp/secret* w,
  }`;
  before(() => parse("--replace", profile));
  after(() => parse("--remove", profile));

  /** Of the container's init, seen from the host, and of an exec, seen from inside. */
  const profilesOf = async (id: string) => [
    readFileSync(`/proc/${await hostPidOf(agent, id)}/attr/current`, "utf8").trim(),
    (await out(agent, id, ["cat", "/proc/self/attr/current"])).trim(),
  ];
  const bothAre = async (id: string, name: string) => assert.deepEqual(await profilesOf(id), [name, name]);

  test("the default profile is what RuntimeDefault means, and nothing said", async () => {
    for (const context of [
      {},
      { apparmor: { profile_type: RuntimeDefault } },
      { apparmor_profile: "runtime/default" },
    ]) {
      await bothAre(await run(context), "berth-default (enforce)");
    }
    assert.match(readFileSync("/sys/kernel/security/apparmor/profiles", "utf8"), /^berth-default \(enforce\)$/m);
  });

  test("so it is with no_new_privs, in the pod's PID namespace, and in the host's", async () => {
    const pid = (mode: runtime.v1.NamespaceMode) => ({ namespace_options: { pid: mode } });
    await bothAre(await run({ no_new_privs: true, run_as_user: { value: long(1000) } }), "berth-default (enforce)");
    await bothAre(await run(pid(NamespaceMode.POD)), "berth-default (enforce)");
    const hostPid = await runPod(agent, { linux: { security_context: pid(NamespaceMode.NODE) } });
    await bothAre(await run(pid(NamespaceMode.NODE), hostPid), "berth-default (enforce)");
  });

  test("unconfined: asked for, or privileged", async () => {
    for (const context of [
      { apparmor: { profile_type: Unconfined } },
      { apparmor_profile: "unconfined" },
      { privileged: true },
      { privileged: true, apparmor: { profile_type: RuntimeDefault } },
    ]) {
      await bothAre(await run(context), "unconfined");
    }
  });

  test("the default profile refuses mounts and the kernel's switches, whatever the capabilities are", async () => {
    const strong = { capabilities: { add_capabilities: ["ALL"] }, readonly_paths: [], masked_paths: [] };
    const attempts = [
      "mkdir -p /m && mount -t tmpfs none /m",
      "mkdir -p /n && mount --bind /tmp /n",
      "umount /proc/sys; echo 1 > /proc/sys/vm/drop_caches",
      "echo h > /proc/sysrq-trigger",
      "head -c 1 /proc/kcore",
      "mkdir -p /sys/kernel/mm; echo 0 > /sys/kernel/profiling",
    ];
    const failing = async (id: string) => {
      const failed: string[] = [];
      for (const attempt of attempts) if ((await exec(agent, id, attempt)).exitCode !== 0) failed.push(attempt);
      return failed;
    };
    assert.deepEqual(await failing(await run(strong)), attempts);
    const unconfined = await failing(await run({ ...strong, apparmor: { profile_type: Unconfined } }));
    assert.ok(!unconfined.includes(attempts[0] as string), "a mount fails without a profile, too");
    assert.ok(!unconfined.includes(attempts[2] as string), "a switch cannot be turned without a profile, either");
  });

  test("what containers live by works under the default profile: files, programs, signals, network, stop", async () => {
    const id = await run({});
    await out(
      agent,
      id,
      "cp /bin/busybox /tmp/own; /tmp/own true; chmod 4755 /tmp/own; mkfifo /tmp/f; echo x >/dev/shm/x",
    );
    await out(agent, id, "sleep 50 & kill -TERM $!; wait $!; [ $? = 143 ]");
    await out(agent, id, "ping -c1 -W2 127.0.0.1; hostname; ls /sys/fs/cgroup /proc/1/fd");
    await out(agent, id, "(echo hello | nc -l -p 4000 &) ; sleep 0.2; nc 127.0.0.1 4000 </dev/null | grep hello");
    await agent.client.call("StopContainer", { container_id: id, timeout: long(1) });
    assert.equal((await waitExited(agent, id)).exit_code, 137);
  });

  test("a profile of the node: in the container and in execs, privileged or not", async () => {
    for (const context of [loadedOnly(confined), { apparmor_profile: `localhost/${confined}` }]) {
      for (const privileged of [false, true]) {
        const id = await run({ ...context, privileged });
        await bothAre(id, `${confined} (enforce)`);
        await out(agent, id, "echo 1 >/tmp/open");
        const { exitCode, stderr } = await exec(agent, id, "echo 1 >/tmp/secret");
        assert.notEqual(exitCode, 0);
        assert.match(stderr, /Permission denied/);
      }
    }
  });

  test("a profile that is not loaded is named, and nothing is made", async () => {
    const sentence = /localhost_ref: the AppArmor profile "no-such-profile" is not loaded on this node/;
    await fails(refused(loadedOnly("no-such-profile")), "INVALID_ARGUMENT", sentence);
    await fails(
      refused({ apparmor_profile: "localhost/no-such-profile" }),
      "INVALID_ARGUMENT",
      /apparmor_profile: .*"no-such-profile" is not loaded/,
    );
  });

  test("a profile that is taken away after the creation: an exec does not run without it", async () => {
    const doomed = `${confined}-doomed`;
    const text = `profile ${doomed} { file, capability, }`;
    parse("--replace", text);
    const id = await run(loadedOnly(doomed));
    await bothAre(id, `${doomed} (enforce)`);
    parse("--remove", text);
    await fails(exec(agent, id, "true"), "INVALID_ARGUMENT", new RegExp(`AppArmor profile.*${doomed}`));
  });
});
