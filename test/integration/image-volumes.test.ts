/** Volumes that are an image's content. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { buildImage, writeOciLayout } from "../support/image-builder.js";
import { until } from "../support/until.js";
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
const name = "berth.test/models:1";
let id: string;
let flatId: string;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  id = await importImage(name, [
    [
      { path: "etc/", type: "directory" },
      { path: "etc/passwd", content: "of the image" },
      { path: "gone", content: "1" },
      { path: "bin/tool", mode: 0o4755, content: "#!/bin/sh\necho ran\n" },
      { path: "inside", type: "symlink", link: "/etc" },
      { path: "outside", type: "symlink", link: "../../../../../../usr/share" },
    ],
    [{ path: ".wh.gone" }, { path: "etc/more", content: "2" }],
  ]);
  flatId = await importImage("berth.test/flat:1", [[{ path: "a/b", content: "flat" }]]);
  pod = await runPod(agent);
});

after(() => agent.stop());

async function importImage(as: string, layers: Parameters<typeof buildImage>[0]["layers"]): Promise<string> {
  const layout = join(agent.paths.base, `layout-${randomBytes(4).toString("hex")}`);
  await writeOciLayout(layout, buildImage({ layers, compression: "none" }), as);
  const { images } = await agent.client.call("ImportImage", { path: layout });
  return images[0]?.id ?? "";
}

const volume = (more: object = {}) => ({
  mounts: [{ container_path: "/vol", readonly: true, image: { image: name }, ...more }],
});

test("shows the image's tree, read-only and executable, and tells its id", async () => {
  const container = await runContainer(agent, pod, volume());
  assert.equal(
    await out(agent, container, "cat /vol/etc/passwd /vol/etc/more; ls /vol"),
    ["of the image2bin", "etc", "inside", "outside"].join("\n"),
  );
  const { exitCode, stderr } = await exec(agent, container, "touch /vol/x");
  assert.equal(exitCode, 1);
  assert.match(stderr, /Read-only file system/);
  assert.equal(await out(agent, container, ["/vol/bin/tool"]), "ran");
  assert.match(await out(agent, container, "grep ' /vol ' /proc/mounts"), /ro,nosuid,nodev/);
  const { mounts } = await containerStatus(agent, container);
  assert.deepEqual(
    mounts?.map((mount) => [mount.container_path, mount.image?.image, mount.image?.image_ref]),
    [["/vol", name, id]],
  );
});

test("a part of the image: a directory, a file, a link that stays inside, of one layer as of several", async () => {
  const at = async (image: string, image_sub_path: string, command: string) =>
    out(agent, await runContainer(agent, pod, volume({ image: { image }, image_sub_path })), command);
  assert.equal(await at(name, "etc", "ls /vol"), "more\npasswd");
  assert.equal(await at(id, "etc/passwd", "cat /vol"), "of the image");
  assert.equal(await at(name, "inside", "ls /vol"), "more\npasswd");
  assert.equal(await at(flatId, "a", "ls /vol"), "b");
  assert.equal(await at(flatId, "a/b", "cat /vol"), "flat");
});

test("a host's directory beside an image has the image_sub_path that the kubelet gives every subPath, and shows itself", async () => {
  const directory = join(agent.paths.base, "beside");
  mkdirSync(directory);
  writeFileSync(join(directory, "of-the-host"), "");
  const beside = { container_path: "/beside", host_path: directory, image_sub_path: "no/such/part" };
  const container = await runContainer(agent, pod, { mounts: [...volume().mounts, beside] });
  assert.equal(await out(agent, container, "ls /beside"), "of-the-host");
});

test("what cannot be mounted is told by field and leaves nothing", async () => {
  const container = (more: object) => createContainer(agent, pod, volume(more));
  // what is hidden is on its way out
  const containers = () => readdirSync(join(agent.paths.root, "containers")).filter((entry) => !entry.startsWith("."));
  const before = containers();
  await fails(
    container({ image: { image: "berth.test/none:1" } }),
    "NOT_FOUND",
    /^[^:]*:? ?ImageVolumeMountFailed: config\.mounts\[0\]\.image: .*none:1.*pull it first/,
  );
  await fails(
    container({ image_sub_path: "none" }),
    "INVALID_ARGUMENT",
    /ImageVolumeMountFailed: .*image_sub_path "none".*\/vol.*ENOENT/,
  );
  await fails(container({ image_sub_path: "outside" }), "INVALID_ARGUMENT", /image_sub_path "outside".*ENOENT/);
  await fails(container({ image_sub_path: "etc/passwd/x" }), "INVALID_ARGUMENT", /image_sub_path.*ENOTDIR/);
  await fails(container({ image_sub_path: "../x" }), "INVALID_ARGUMENT", /image_sub_path: "\.\.\/x"/);
  await fails(container({ readonly: false }), "INVALID_ARGUMENT", /config\.mounts\[0\]\.readonly/);
  assert.deepEqual(containers(), before);
});

test("the layers stay while the container is there, also over a restart of the agent", async () => {
  const layers = () => readdirSync(join(agent.paths.root, "layers")).filter((entry) => !entry.startsWith(".")).length;
  const container = await runContainer(agent, pod, volume({ image: { image: flatId } }));
  const before = layers();
  await agent.client.call("RemoveImage", { image: { image: flatId } });
  await agent.restart();
  assert.equal(layers(), before);
  assert.equal(await out(agent, container, "cat /vol/a/b"), "flat");
  for (const { id } of (await agent.client.call("ListContainers", {})).containers) {
    await agent.client.call("RemoveContainer", { container_id: id ?? "" });
  }
  // with the last container, and not only with the next image or agent
  await until(() => layers() === before - 1);
});
