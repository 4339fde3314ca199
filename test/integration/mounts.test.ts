/** Mounts of the request, beyond what a container's usual ones are. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../../native/binding.js";
import { mountPropagation } from "../../sandbox/mount-options.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  out,
  type RunningPod,
  runContainer,
  runPod,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

/** A directory of the test's own on the host. */
function hostDirectory(name: string): string {
  const path = join(agent.paths.base, name);
  mkdirSync(path, { recursive: true });
  return path;
}

/** How many the agent has when nothing else is under way in it: what it looks at by the way is open for moments. */
async function descriptors(): Promise<number> {
  const counts: number[] = [];
  for (let look = 0; look < 40; look++) {
    counts.push(readdirSync(`/proc/${agent.pid}/fd`).length);
    await sleep(25);
  }
  return Math.min(...counts);
}

test("a thousand mounts, each what it says; more than four thousand are refused", async () => {
  const source = hostDirectory("many");
  const mounts = Array.from({ length: 1000 }, (_, index) => {
    writeFileSync(join(source, `${index}`), `${index}`);
    return { container_path: `/many/${index % 10}/${index}`, host_path: join(source, `${index}`), readonly: true };
  });
  const before = await descriptors();
  const container = await runContainer(agent, pod, { mounts });
  assert.equal(
    await out(agent, container, "cat /many/0/0 /many/7/247 /many/3/253 /many/6/506 /many/9/999"),
    "0247253506999",
  );
  assert.equal(await out(agent, container, "grep -c ' /many/' /proc/mounts"), "1000");
  assert.equal(await descriptors(), before);
  const tooMany = Array.from({ length: 4100 }, (_, index) => ({ container_path: `/m/${index}`, host_path: source }));
  await fails(createContainer(agent, pod, { mounts: tooMany }), "INVALID_ARGUMENT", /config\.mounts: 4103 mounts/);
});

/** A directory that is a mount of its own, shared. */
async function sharedMount(name: string): Promise<string> {
  const path = hostDirectory(name);
  await bindOver(path, path);
  const fd = native.openPath(path);
  native.setMountAttributes(fd, { propagation: mountPropagation.rshared });
  native.closeDescriptor(fd);
  return path;
}

async function bindOver(source: string, path: string): Promise<void> {
  const fd = await native.openTree({ path: source, recursive: false });
  try {
    await native.attachMount(fd, path);
  } finally {
    native.closeDescriptor(fd);
  }
}

test("what is mounted on the host later comes into a container that asks for it, and into no other", async () => {
  const shared = await sharedMount("following");
  const content = hostDirectory("content");
  writeFileSync(join(content, "file"), "mounted");
  try {
    mkdirSync(join(shared, "later"));
    const mount = (propagation: number) => ({ mounts: [{ container_path: "/m", host_path: shared, propagation }] });
    const [apart, following] = [await runContainer(agent, pod, mount(0)), await runContainer(agent, pod, mount(1))];
    await bindOver(content, join(shared, "later"));
    assert.equal(await out(agent, following, "cat /m/later/file"), "mounted");
    assert.equal(await out(agent, apart, "ls /m/later"), "");
    await native.unmount(join(shared, "later"));
    assert.equal(await out(agent, following, "ls /m/later"), "");
  } finally {
    await native.unmount(shared);
  }
});

test("a volume may lie where a volume that follows the host has something mounted, too", async () => {
  const shared = await sharedMount("covered");
  const [there, other] = [hostDirectory("there"), hostDirectory("other")];
  writeFileSync(join(other, "file"), "other");
  mkdirSync(join(shared, "sub"));
  await bindOver(there, join(shared, "sub"));
  try {
    const mounts = [
      { container_path: "/host", host_path: shared, propagation: 1 },
      { container_path: "/host/sub", host_path: other },
    ];
    const id = await runContainer(agent, pod, { mounts });
    assert.equal(await out(agent, id, "cat /host/sub/file"), "other");
    mkdirSync(join(shared, "later"));
    await bindOver(other, join(shared, "later"));
    assert.equal(await out(agent, id, "cat /host/later/file"), "other");
    await native.unmount(join(shared, "later"));
  } finally {
    await native.unmount(join(shared, "sub"));
    await native.unmount(shared);
  }
});

test("a directory on a file and a file on a directory are refused in words", async () => {
  const directory = hostDirectory("of-another-kind");
  writeFileSync(join(directory, "file"), "");
  const make = (host_path: string, container_path: string) =>
    createContainer(agent, pod, { mounts: [{ host_path, container_path }] });
  await fails(make(directory, "/etc/passwd"), "INVALID_ARGUMENT", /mount "\/etc\/passwd".*a directory .* what is none/);
  await fails(make(join(directory, "file"), "/tmp"), "INVALID_ARGUMENT", /mount "\/tmp".*no directory .* on one/);
});

test("what is mounted while a container is made is not lost, and what is unmounted not kept", async () => {
  const shared = await sharedMount("raced");
  const content = hostDirectory("content-of-race");
  writeFileSync(join(content, "file"), "mounted");
  try {
    for (let round = 0; round < 12; round++) {
      const [coming, going] = [join(shared, `coming-${round}`), join(shared, `going-${round}`)];
      for (const path of [coming, going]) mkdirSync(path);
      await bindOver(content, going);
      const change = async () => {
        await sleep(round);
        await bindOver(content, coming);
        await native.unmount(going);
      };
      const mounts = [{ container_path: "/m", host_path: shared, propagation: 1 }];
      const [id] = await Promise.all([runContainer(agent, pod, { mounts }), change()]);
      assert.equal(
        await out(agent, id, `cat /m/coming-${round}/file; ls /m/going-${round}`),
        "mounted",
        `round ${round}`,
      );
      await agent.client.call("RemoveContainer", { container_id: id });
      await native.unmount(coming);
    }
  } finally {
    await native.unmount(shared);
  }
});

test("what a container has of its own inside a mount that follows the host is no difference to the host", async () => {
  const shared = await sharedMount("followed");
  const content = hostDirectory("content-of-inner");
  writeFileSync(join(content, "file"), "inner");
  try {
    mkdirSync(join(shared, "inside", "masked"), { recursive: true });
    symlinkSync("inside", join(shared, "link"));
    const id = await runContainer(agent, pod, {
      mounts: [
        { container_path: "/m", host_path: shared, propagation: 1 },
        { container_path: "/m/link/volume", host_path: content },
      ],
      linux: { security_context: { masked_paths: ["/m/inside/masked"], readonly_paths: ["/m/inside"] } },
    });
    assert.equal(await out(agent, id, "cat /m/inside/volume/file"), "inner");
    assert.match((await exec(agent, id, "touch /m/inside/x")).stderr, /Read-only/);
  } finally {
    await native.unmount(shared);
  }
});

test("bidirectional: what a privileged container mounts is on the host", async () => {
  const shared = await sharedMount("both");
  const privileged = { linux: { security_context: { privileged: true } } };
  const strong = await runPod(agent, privileged);
  try {
    const id = await runContainer(agent, strong, {
      ...privileged,
      mounts: [{ container_path: "/m", host_path: shared, propagation: 2 }],
    });
    await out(agent, id, "mkdir /m/inner && mount -t tmpfs tmpfs /m/inner && echo made > /m/inner/file");
    assert.equal(readFileSync(join(shared, "inner", "file"), "utf8"), "made\n");
    await out(agent, id, "umount /m/inner");
    assert.deepEqual(readdirSync(join(shared, "inner")), []);
  } finally {
    await native.unmount(shared);
  }
});

test("read-only is the volume's own mount, recursively read-only is everything below it, too", async () => {
  const outer = hostDirectory("read-only");
  const inner = hostDirectory("below-read-only");
  mkdirSync(join(outer, "sub"));
  await bindOver(inner, join(outer, "sub"));
  try {
    const mount = (container_path: string, recursive_read_only: boolean) => ({
      container_path,
      host_path: outer,
      readonly: true,
      recursive_read_only,
    });
    const id = await runContainer(agent, pod, { mounts: [mount("/ro", false), mount("/rro", true)] });
    const writes = "for d in /ro /ro/sub /rro /rro/sub; do touch $d/x 2>/dev/null && echo $d; done; true";
    assert.equal(await out(agent, id, writes), "/ro/sub");
    assert.deepEqual(readdirSync(inner), ["x"]);
    const status = await containerStatus(agent, id);
    assert.deepEqual(
      status.mounts?.map(({ recursive_read_only }) => recursive_read_only),
      [false, true],
    );
  } finally {
    await native.unmount(join(outer, "sub"));
  }
});

test("mount options, nested mounts in any order, and /dev as a volume", async () => {
  const [outer, inner] = [hostDirectory("outer"), hostDirectory("inner")];
  writeFileSync(join(inner, "file"), "inner");
  const id = await runContainer(agent, pod, {
    mounts: [
      { container_path: "/n/a/b", host_path: inner, readonly: true },
      { container_path: "/n", host_path: outer, mount_options: ["noexec", "nosuid", "nodev", "noatime"] },
    ],
  });
  assert.equal(await out(agent, id, "cat /n/a/b/file"), "inner");
  assert.match(await out(agent, id, "grep ' /n ' /proc/mounts"), / rw,nosuid,nodev,noexec,noatime/);
  const privileged = { linux: { security_context: { privileged: true } } };
  const strong = await runPod(agent, privileged);
  const whole = await runContainer(agent, strong, {
    ...privileged,
    mounts: [{ container_path: "/dev", host_path: "/dev" }],
  });
  assert.equal(await out(agent, whole, "head -c 1 /dev/zero | wc -c"), "1");
});
