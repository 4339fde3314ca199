/** Devices of a request: what may be done with them, directories of them, and what is in the way of one. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, closeSync, existsSync, mkdirSync, openSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { deviceNumbers } from "../../sandbox/device-numbers.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { exec, importBusybox, out, type RunningPod, runContainer, runPod, runToEnd, sh } from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

/** One that no container has by itself, and that this machine opens for reading as for writing. */
const found = ["loop-control", "net/tun", "fuse", "cpu_dma_latency"].map((name) => `/dev/${name}`).find(canBeOpened);
const host_path = found ?? "";
const skip = found === undefined ? "this machine lets nobody open a device that is none of the default ones" : false;

function canBeOpened(path: string): boolean {
  try {
    for (const flags of ["r", "r+"]) closeSync(openSync(path, flags));
    return true;
  } catch {
    return false;
  }
}

const opens = (path: string) =>
  `for way in '<' '>'; do (eval ": $way ${path}") 2>/dev/null && echo "$way yes" || echo "$way no"; done`;

test("what is asked for is allowed and nothing else, in the program and in execs", { skip }, async () => {
  for (const [permissions, expected] of [
    ["r", "< yes\n> no"],
    ["w", "< no\n> yes"],
    ["m", "< no\n> no"],
    ["rw", "< yes\n> yes"],
    ["mwr", "< yes\n> yes"],
  ] as const) {
    const devices = [{ container_path: "/dev/mine", host_path, permissions }];
    const id = await runContainer(agent, pod, { ...sh(`${opens("/dev/mine")} > /told; sleep 1000`), devices });
    assert.equal(await out(agent, id, opens("/dev/mine")), expected, permissions);
    assert.equal(await out(agent, id, "while [ $(wc -l < /told) -lt 2 ]; do sleep 0.05; done; cat /told"), expected);
    await agent.client.call("RemoveContainer", { container_id: id });
  }
});

test("a node that the container makes itself of a device that it was not given does not open", { skip }, async () => {
  const { major, minor } = deviceNumbers(statSync(host_path, { bigint: true }).rdev);
  const id = await runContainer(agent, pod);
  assert.equal(await out(agent, id, `mknod /own c ${major} ${minor}; ${opens("/own")}`), "< no\n> no");
});

test("a directory of devices, with those below it, at another place; links of the host are followed", {
  skip,
}, async () => {
  const directory = join(agent.paths.base, "link-to-dev");
  symlinkSync("/dev", directory);
  const id = await runContainer(agent, pod, {
    devices: [{ container_path: "/all/of/them", host_path: directory, permissions: "rw" }],
  });
  const [name, place] = [host_path.slice("/dev/".length), `/all/of/them/${host_path.slice("/dev/".length)}`];
  assert.ok(existsSync(host_path), name);
  assert.equal(await out(agent, id, opens(place)), "< yes\n> yes");
  // other namespaces' things are not devices to give away
  assert.equal(await out(agent, id, "ls /all/of/them | grep -cE '^(pts|shm|mqueue|console|ptmx)$' || true"), "0");
});

test("a device's owner and mode are the host's, and the later of two at one place counts", { skip }, async () => {
  const { major, minor } = deviceNumbers(statSync(host_path, { bigint: true }).rdev);
  const owned = join(agent.paths.base, "owned");
  execFileSync("mknod", [owned, "c", String(major), String(minor)]);
  chownSync(owned, 7, 8);
  chmodSync(owned, 0o640);
  const devices = [
    { container_path: "/dev/mine", host_path: "/dev/full", permissions: "r" },
    { container_path: "/dev/mine", host_path: owned, permissions: "rw" },
  ];
  const { output } = await runToEnd(agent, pod, { ...sh("stat -c '%a %u %g %t' /dev/mine"), devices });
  assert.equal(output, `640 7 8 ${major.toString(16)}\n`);
});

test("a device below a read-only root, and below a volume", { skip }, async () => {
  const volume = join(agent.paths.base, "volume");
  mkdirSync(volume);
  const id = await runContainer(agent, pod, {
    linux: { security_context: { readonly_rootfs: true } },
    mounts: [{ container_path: "/volume", host_path: volume }],
    devices: ["/deep/in/root", "/volume/node"].map((container_path) => ({
      container_path,
      host_path,
      permissions: "r",
    })),
  });
  for (const path of ["/deep/in/root", "/volume/node"])
    assert.match((await exec(agent, id, opens(path))).stdout, /< yes/);
});
