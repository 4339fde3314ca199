/** `berth explain`: what it says of containers is what the kernel says of their processes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Section } from "../../agent/cli/explain/fact.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  hostPidOf,
  importBusybox,
  long,
  NamespaceMode,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
let agent: TestAgent;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
});
after(() => agent.stop());

async function explain(...args: string[]): Promise<string> {
  const env = { ...process.env, BERTH_SOCKET: agent.socket };
  return (await run(process.execPath, [program, "explain", ...args], { env })).stdout;
}

function statusOf(pid: number): (name: string) => string {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return (name) => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(text)?.[1] ?? "";
}

function count(mask: string): number {
  return [...BigInt(`0x${mask}`).toString(2)].filter((bit) => bit === "1").length;
}

test("a confined container", async () => {
  const pod = await runPod(agent, { hostname: "explained" });
  const id = await runContainer(agent, pod, {
    ...sh("sleep 1000"),
    mounts: [{ container_path: "/conf", host_path: "/etc", readonly: true }],
    linux: {
      resources: { memory_limit_in_bytes: long(64 << 20), cpu_quota: long(50_000), cpu_period: long(100_000) },
      security_context: {
        namespace_options: { pid: NamespaceMode.CONTAINER },
        capabilities: { drop_capabilities: ["ALL"], add_capabilities: ["NET_RAW", "CHOWN"] },
        run_as_user: { value: long(1234) },
        no_new_privs: true,
        readonly_rootfs: true,
        seccomp: { profile_type: 0 },
        supplemental_groups: [long(77)],
      },
    },
  });
  const sections = JSON.parse(await explain("--json", id.slice(0, 12))) as Section[];
  const facts = sections.flatMap((section) => section.facts);
  const from = (what: RegExp) => facts.find((fact) => what.test(fact.what))?.from ?? `nothing says ${what}`;

  const pid = await hostPidOf(agent, id);
  const status = statusOf(pid);
  assert.equal(
    from(new RegExp(`may ever have ${count(status("CapBnd"))} capabilities: CHOWN, NET_RAW$`)),
    "linux.security_context.capabilities: +NET_RAW +CHOWN -ALL",
  );
  assert.equal(count(status("CapEff")), 0);
  assert.match(from(/has none of them in effect/), /it is not root/);
  assert.equal(status("NoNewPrivs"), "1");
  assert.equal(from(/set-user-id programs .* give it nothing/), "linux.security_context.no_new_privs");
  assert.equal(status("Seccomp"), "2");
  assert.match(from(/system calls are filtered by Berth's own profile: [1-9]\d\d are allowed by name/), /profile_type/);
  assert.equal(status("Uid").split("\t")[0], "1234");
  assert.equal(from(/as user 1234/), "linux.security_context.run_as_user");
  assert.match(status("Groups"), /77/);
  assert.match(from(/in the groups .*77/), /supplemental_groups/);
  assert.match(from(/uts: the pod's; the host name is "explained"/), /hostname/);
  assert.notEqual(readlinkSync(`/proc/${pid}/ns/pid`), readlinkSync("/proc/self/ns/pid"));
  assert.match(from(/pid: its own/), /CONTAINER/);
  assert.equal(from(/^\/conf is \/etc of the host \(.*ro/), "mounts[0]");
  assert.match(from(/nothing writable above/), /readonly_rootfs/);
  assert.equal(from(/at most 67108864 bytes of memory;/), "linux.resources.memory_limit_in_bytes");
  assert.match(from(/0\.50 processors/), /cpu_quota/);
  // for people
  const text = await explain(id);
  for (const { title } of sections) assert.ok(text.includes(`${title}\n`), title);
  assert.match(text, / {2}runs "sh" "-c" "sleep 1000"\n {4}from command/);
  await removePod(agent, pod);
});

test("a pod without a hostname has a UTS namespace of its own, in which the name is the host's", async () => {
  const pod = await runPod(agent, { hostname: "" });
  const id = await runContainer(agent, pod, sh("sleep 1000"));
  assert.match(await explain(id), /uts: the pod's; the name is the host's\n/);
  assert.notEqual(readlinkSync(`/proc/${await hostPidOf(agent, id)}/ns/uts`), readlinkSync("/proc/self/ns/uts"));
  await removePod(agent, pod);
});

test("a privileged container of a pod with the host's namespaces", async () => {
  const host = { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE };
  const pod = await runPod(agent, { linux: { security_context: { namespace_options: host, privileged: true } } });
  const id = await runContainer(agent, pod, {
    ...sh("sleep 1000"),
    linux: { security_context: { namespace_options: host, privileged: true } },
  });
  const text = await explain(id);
  const pid = await hostPidOf(agent, id);
  const status = statusOf(pid);
  for (const name of ["net", "ipc", "pid", "uts", "user"]) {
    assert.equal(readlinkSync(`/proc/${pid}/ns/${name}`), readlinkSync(`/proc/self/ns/${name}`), name);
  }
  for (const line of [
    "network: the host's",
    "ipc: the host's",
    "pid: the host's",
    "uts: the host's",
    "user: the host's",
  ]) {
    assert.ok(text.includes(`  ${line}`), line);
  }
  assert.equal(status("Seccomp"), "0");
  assert.match(text, /every system call is open to it\n {4}from linux\.security_context\.privileged/);
  assert.match(text, new RegExp(`may ever have ${count(status("CapBnd"))} capabilities`));
  assert.match(text, /it may use every device/);
  assert.match(text, /no limit but those of the cgroups above it/);
  await removePod(agent, pod);
});
