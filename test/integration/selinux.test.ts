/**
 * SELinux: labels of processes and files, and the relabelling of volumes. In the virtual machine, first with Debian's policy
 * as it is, which has no domain for containers, then, enforcing, with one that has. Elsewhere only what is refused.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { kernelFeatures } from "../../native/features.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { lacksStorage, makeFileSystem } from "../support/file-systems.js";
import { buildImage } from "../support/image-builder.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import {
  busyboxName,
  exec,
  fails,
  hostPidOf,
  importBusybox,
  NamespaceMode,
  out,
  type RunningPod,
  runContainer,
  runPod,
} from "../support/workload.js";

let agent: TestAgent;
before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
});
after(() => agent.stop());

type Context = runtime.v1.ILinuxContainerSecurityContext;
type Mounts = runtime.v1.IMount[];

const run = (pod: RunningPod, context: Context = {}, mounts: Mounts = []) =>
  runContainer(agent, pod, { mounts, linux: { security_context: context } });
const processLabel = (pid: number) => readFileSync(`/proc/${pid}/attr/current`, "latin1").replace(/\0$/, "");
const fileLabel = (path: string) => execFileSync("stat", ["-c", "%C", path], { encoding: "utf8" }).trim();
/** Of a file as the container sees it. */
const labelIn = async (id: string, path: string) => fileLabel(`/proc/${await hostPidOf(agent, id)}/root${path}`);

/** Of the container's init and of an exec, which must be the same. */
async function labelOf(id: string): Promise<string> {
  const label = processLabel(await hostPidOf(agent, id));
  assert.equal((await out(agent, id, ["cat", "/proc/self/attr/current"])).replace(/\0$/, ""), label);
  return label;
}

const selinux = kernelFeatures().selinux;
const policy = "/usr/share/selinux/containers.policy";
const skip = selinux ? false : "this machine's kernel has no SELinux";

test("without SELinux: labels and selinux_relabel change nothing, which is said once", {
  skip: selinux && "it has",
}, async () => {
  const selinux_options = { type: "container_t", level: "s0:c1,c2" };
  const labelled = await runPod(agent, { linux: { security_context: { selinux_options } } });
  const volume = { host_path: "/usr", container_path: "/v", readonly: true, selinux_relabel: true };
  const id = await run(labelled, { selinux_options }, [volume]);
  assert.equal(await out(agent, id, ["echo", "runs"]), "runs");
  assert.equal(agent.logs().match(/SELinux labels that pods ask for are not applied/g)?.length, 1);
});

describe("with Debian's policy as it is", { skip }, () => {
  test("its lack of a domain for containers is said once, and containers get no label of themselves", async () => {
    const told = agent.logs().match(/its policy has no label system_u:system_r:container_t:s0/g) ?? [];
    assert.equal(told.length, 1, agent.logs());
    const pod = await runPod(agent);
    assert.equal(await labelOf(await run(pod)), processLabel(process.pid));
  });

  test("a label that is asked for is given, by the container or by the pod", async () => {
    const selinux_options = { user: "system_u", role: "system_r", type: "svirt_t", level: "s0:c1,c2" };
    const plain = await runPod(agent);
    assert.equal(await labelOf(await run(plain, { selinux_options })), "system_u:system_r:svirt_t:s0:c1,c2");
    const labelled = await runPod(agent, { linux: { security_context: { selinux_options } } });
    assert.equal(await labelOf(await run(labelled)), "system_u:system_r:svirt_t:s0:c1,c2");
  });

  test("a label that the policy does not have is named", async () => {
    const pod = await runPod(agent);
    await fails(
      run(pod, { selinux_options: { type: "no_such_t" } }),
      "INVALID_ARGUMENT",
      /"system_u:system_r:no_such_t:s0/,
    );
  });
});

describe("with a domain for containers, enforcing", {
  skip: skip || (!existsSync(policy) && `${policy} is not there`),
}, () => {
  let one: RunningPod;
  let other: RunningPod;
  let first: string;
  let second: string;
  let work: string;
  const mountLabel = async (id: string) =>
    (await labelOf(id)).replace(/^.*?container_t/, "system_u:object_r:container_file_t");

  before(async () => {
    writeFileSync("/sys/fs/selinux/load", readFileSync(policy), { flag: "r+" });
    writeFileSync("/sys/fs/selinux/enforce", "1", { flag: "r+" });
    await agent.restart();
    work = join(agent.paths.base, "work");
    mkdirSync(work);
    [one, other] = [await runPod(agent, { linux: { security_context: { privileged: true } } }), await runPod(agent)];
    [first, second] = [await run(one), await run(other)];
  });
  after(() => writeFileSync("/sys/fs/selinux/enforce", "0", { flag: "r+" }));

  const directory = (name: string) => {
    mkdirSync(join(work, name));
    writeFileSync(join(work, name, "file"), "content\n");
    return join(work, name);
  };
  const volume = (host_path: string, more: runtime.v1.IMount = {}): Mounts => [
    { host_path, container_path: "/volume", selinux_relabel: true, ...more },
  ];
  const reads = async (id: string) => (await exec(agent, id, ["cat", "/volume/file"])).exitCode === 0;

  test("a pod has two categories of its own, all its containers have them, execs too, also after a restart", async () => {
    const label = await labelOf(first);
    assert.match(label, /^system_u:system_r:container_t:s0:c\d+,c\d+$/);
    assert.equal(await labelOf(await run(one)), label);
    assert.notEqual(await labelOf(second), label);
    await agent.restart();
    assert.equal(await labelOf(await run(one)), label);
    assert.equal(await labelOf(first), label);
  });

  test("so it is with no_new_privs, another user, the pod's PID namespace", async () => {
    const label = await labelOf(first);
    const context = { no_new_privs: true, run_as_user: { value: 1000 as never } };
    assert.equal(await labelOf(await run(one, context)), label);
    assert.equal(await labelOf(await run(one, { namespace_options: { pid: NamespaceMode.POD } })), label);
  });

  test("what is asked for counts: parts of a label, the rest is the pod's", async () => {
    const level = (await labelOf(first)).split(":").slice(3).join(":");
    assert.equal(
      await labelOf(await run(one, { selinux_options: { level: "s0:c10,c20" } })),
      "system_u:system_r:container_t:s0:c10,c20",
    );
    assert.equal(await labelOf(await run(one, { selinux_options: { user: "system_u" } })), await labelOf(first));
    const pod = await runPod(agent, { linux: { security_context: { selinux_options: { level: "s0:c7" } } } });
    assert.equal(await labelOf(await run(pod)), "system_u:system_r:container_t:s0:c7");
    assert.ok(level.startsWith("s0:c"));
  });

  test("the files of a container have its label: root, devices, shared memory, the pod's files", async () => {
    const label = await mountLabel(first);
    await out(agent, first, "echo new >/tmp/new; echo x >/dev/shm/x; echo y >>/etc/hosts");
    for (const path of [
      "/",
      "/bin/busybox",
      "/tmp/new",
      "/dev",
      "/dev/null",
      "/dev/pts",
      "/dev/shm",
      "/dev/shm/x",
      "/etc/hosts",
    ]) {
      assert.equal(await labelIn(first, path), label, path);
    }
  });

  test("an image volume has it, too", async () => {
    const mounts = [{ container_path: "/image", readonly: true, image: { image: busyboxName } }];
    const id = await run(one, {}, mounts);
    assert.equal(await labelIn(id, "/image/bin/busybox"), await mountLabel(first));
    assert.equal(await out(agent, id, ["/image/bin/busybox", "echo", "runs"]), "runs");
  });

  for (const [driver, on] of [
    ["overlay", "ext4"],
    ["copy", "xfs"],
    ["btrfs", "btrfs"],
    ["devmapper", "ext4"],
  ] as const) {
    test(`so it is with the storage driver ${driver}: pods that share an image see it with the label of each`, {
      skip: lacksStorage(driver, on) ?? false,
    }, async () => {
      const fileSystem = makeFileSystem(on, 400);
      const root = join(fileSystem.path, "root");
      const agent = await startAgent({ flags: { root, "storage-driver": driver } });
      const empty = await startLyingRegistry(buildImage({ layers: [] }));
      try {
        await importBusybox(agent);
        const bare = `${empty.host}/x:1`;
        await agent.client.call("PullImage", { image: { image: bare } });
        for (const level of ["s0:c1,c2", "s0:c3,c4"]) {
          const pod = await runPod(agent, { linux: { security_context: { selinux_options: { level } } } });
          const mounts = [
            { container_path: "/image", readonly: true, image: { image: busyboxName } },
            { container_path: "/part", readonly: true, image: { image: busyboxName }, image_sub_path: "bin" },
            { container_path: "/bare", readonly: true, image: { image: bare } },
          ];
          const id = await runContainer(agent, pod, { mounts });
          const pid = await hostPidOf(agent, id);
          for (const path of ["/bin/busybox", "/image", "/image/bin/busybox", "/part/busybox", "/bare"]) {
            const label = `system_u:object_r:container_file_t:${level}`;
            assert.equal(fileLabel(`/proc/${pid}/root${path}`), label, path);
          }
          assert.equal(await out(agent, id, ["/image/bin/busybox", "echo", "runs"]), "runs");
          assert.notEqual((await exec(agent, id, "echo x >/image/new")).exitCode, 0);
        }
      } finally {
        await empty.stop();
        await agent.stop();
        await fileSystem.close();
      }
    });
  }

  test("privileged containers and those that see the host's processes have no label of their own", async () => {
    assert.equal(await labelOf(await run(one, { privileged: true })), processLabel(process.pid));
    const labelled = await run(one, { privileged: true, selinux_options: { level: "s0:c1" } });
    assert.equal(await labelOf(labelled), "system_u:system_r:container_t:s0:c1");
    const namespace_options = { pid: NamespaceMode.NODE };
    const host = await runPod(agent, { linux: { security_context: { namespace_options } } });
    assert.equal(await labelOf(await run(host, { namespace_options })), processLabel(process.pid));
  });

  test("a relabelled volume is its pod's: other pods do not get at it, until it is relabelled for them", async () => {
    const source = directory("separate");
    const mine = await run(one, {}, volume(source));
    assert.equal(fileLabel(join(source, "file")), await mountLabel(first));
    assert.ok(await reads(mine));
    await out(agent, mine, "echo new >/volume/new");
    assert.equal(fileLabel(join(source, "new")), await mountLabel(first));
    const stranger = await run(other, {}, volume(source, { selinux_relabel: false }));
    assert.ok(!(await reads(stranger)), "a container of another pod reads the volume");
    await run(other, {}, volume(source));
    assert.ok(await reads(stranger));
    assert.ok(!(await reads(mine)), "the volume was given away, and still it is read");
  });

  test("links are not followed, mounts below are not touched, read-only mounts are no obstacle", async () => {
    const source = directory("tree");
    const outside = directory("outside");
    mkdirSync(join(source, "a", "b"), { recursive: true });
    writeFileSync(join(source, "a", "b", "deep"), "");
    symlinkSync(join(outside, "file"), join(source, "link"));
    symlinkSync(outside, join(source, "a", "linked"));
    execFileSync("mkfifo", [join(source, "fifo")]);
    mkdirSync(join(source, "mounted"));
    execFileSync("mount", ["-t", "tmpfs", "none", join(source, "mounted")]);
    try {
      writeFileSync(join(source, "mounted", "file"), "");
      const before = [fileLabel(join(outside, "file")), fileLabel(outside), fileLabel(join(source, "mounted", "file"))];
      await run(one, {}, volume(source, { readonly: true }));
      const label = await mountLabel(first);
      for (const name of [".", "file", "a", "a/b", "a/b/deep", "fifo"]) {
        assert.equal(fileLabel(join(source, name)), label, name);
      }
      assert.deepEqual(
        [fileLabel(join(outside, "file")), fileLabel(outside), fileLabel(join(source, "mounted", "file"))],
        before,
      );
    } finally {
      execFileSync("umount", [join(source, "mounted")]);
    }
  });

  test("a single file; and what has its label already is not written to", async () => {
    const file = join(directory("single"), "file");
    await run(one, {}, volume(file));
    assert.equal(fileLabel(file), await mountLabel(first));
    const before = statSync(file).ctimeMs;
    await run(one, {}, volume(file));
    assert.equal(statSync(file).ctimeMs, before);
  });

  test("directories of the system are refused, by whatever path, and nothing of them is changed", async () => {
    const link = join(work, "usr");
    const bound = join(work, "bound");
    symlinkSync("/usr", link);
    mkdirSync(bound);
    execFileSync("mount", ["--bind", "/etc", bound]);
    try {
      const before = ["/etc", "/etc/passwd", "/usr/bin", "/home"].filter(existsSync).map(fileLabel);
      for (const source of ["/", "/etc", "/usr/", "/usr/../var", "/var/lib", "/tmp", link, bound]) {
        const sentence = /selinux_relabel: the files of .* are the system's/;
        await fails(run(one, {}, volume(source)), "INVALID_ARGUMENT", sentence);
      }
      assert.deepEqual(["/etc", "/etc/passwd", "/usr/bin", "/home"].filter(existsSync).map(fileLabel), before);
    } finally {
      execFileSync("umount", [bound]);
    }
  });

  test("a file system without labels is mounted as it is; a read-only one is told", async () => {
    const bare = await run(one, {}, volume("/proc/bus", { readonly: true }));
    assert.equal(await out(agent, bare, ["echo", "runs"]), "runs");
    const readonly = join(work, "readonly");
    mkdirSync(readonly);
    execFileSync("mount", ["-t", "tmpfs", "-o", "ro", "none", readonly]);
    try {
      await fails(run(one, {}, volume(readonly)), "INVALID_ARGUMENT", /read-only file system/);
    } finally {
      execFileSync("umount", [readonly]);
      rmSync(readonly, { recursive: true });
    }
  });
});
