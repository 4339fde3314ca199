/** The CRI's rules for mounts, image volumes and devices. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import {
  busyboxName,
  createContainer,
  fails,
  importBusybox,
  out,
  runContainer,
  runToEnd,
  sh,
} from "../support/workload.js";
import { leavesNothing, placeForRules, type Refusal, refusedContainers } from "./support.js";

const at = (name: string) => join(place.agent.paths.base, name);
const place = placeForRules(async ({ agent }) => {
  mkdirSync(at("volume"));
  writeFileSync(at("file"), "content");
  symlinkSync("volume", at("link"));
  symlinkSync("dangling-target", at("dangling"));
  symlinkSync("circle", at("circle"));
  await importBusybox(agent, "berth.test/links:1", {
    layers: [
      [
        { path: "circle", type: "symlink", link: "circle" },
        { path: "out", type: "symlink", link: "../../../../etc/hostname" },
        { path: "inside", type: "symlink", link: "etc/passwd" },
        { path: "a-file", content: "x" },
      ],
    ],
  });
});

type Mount = runtime.v1.IMount;
type Rule = Refusal<runtime.v1.IContainerConfig>;
const mount = (more: Mount) => (): runtime.v1.IContainerConfig => ({
  mounts: [{ container_path: "/m", host_path: at("volume"), ...more }],
});
const image = (more: Mount) => (): runtime.v1.IContainerConfig => ({
  mounts: [{ container_path: "/m", readonly: true, image: { image: "berth.test/links:1" }, ...more }],
});
const device = (more: runtime.v1.IDevice): runtime.v1.IContainerConfig => ({
  devices: [{ container_path: "/dev/x", host_path: "/dev/null", permissions: "rwm", ...more }],
});

describe("where a mount is", () => {
  refusedContainers(place, [
    [
      "a path inside is needed",
      mount({ container_path: "" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.container_path: a path is needed/,
    ],
    [
      "it is absolute",
      mount({ container_path: "m" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.container_path: "m" is not absolute/,
    ],
    ["it has no NUL", mount({ container_path: "/m\0" }), "INVALID_ARGUMENT", /^config\.mounts\[0\]\.container_path/],
    [
      "it is not the root",
      mount({ container_path: "/x/.." }),
      "INVALID_ARGUMENT",
      /container_path: nothing can be mounted over the root/,
    ],
    [
      "it does not climb to the root",
      mount({ container_path: "/../.." }),
      "INVALID_ARGUMENT",
      /container_path: nothing can be mounted over the root/,
    ],
    [
      "it is not /proc",
      mount({ container_path: "/proc" }),
      "INVALID_ARGUMENT",
      /container_path: \/proc is part of the container's own \/proc/,
    ],
    [
      "it is not below /proc",
      mount({ container_path: "//proc/./self/attr" }),
      "INVALID_ARGUMENT",
      /container_path: \/proc\/self\/attr/,
    ],
    [
      "a path of 4,096 bytes is none",
      mount({ container_path: `/${"a/".repeat(2047)}b` }),
      "INVALID_ARGUMENT",
      /container_path: the path is longer than 4095 bytes/,
    ],
    [
      "a name of 256 bytes is none",
      mount({ container_path: `/${"n".repeat(256)}` }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.container_path: .*ENAMETOOLONG/,
    ],
    [
      "a directory is not mounted on a file",
      mount({ container_path: "/bin/busybox" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.container_path: .*"\/bin\/busybox": ENOTDIR/,
    ],
    [
      "nothing is made in a read-only mount for another one",
      () => ({
        mounts: [
          { container_path: "/m", host_path: at("volume"), readonly: true },
          { container_path: "/m/not-there", host_path: at("volume") },
        ],
      }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[1\]\.container_path: .*"\/m\/not-there": EROFS/,
    ],
    [
      "a link of the image that leads to itself is no place",
      () => ({ ...mount({ container_path: "/circle/x" })(), image: { image: "berth.test/links:1" } }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.container_path: .*"\/circle\/x": ELOOP/,
    ],
  ]);
});

describe("what of the host is mounted", () => {
  refusedContainers(place, [
    [
      "a path of the host is needed",
      mount({ host_path: "" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.host_path: a path is needed/,
    ],
    [
      "it is absolute",
      mount({ host_path: "volume" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.host_path: "volume" is not absolute/,
    ],
    ["it has no NUL", mount({ host_path: "/a\0" }), "INVALID_ARGUMENT", /^config\.mounts\[0\]\.host_path/],
    [
      "it is there",
      () => mount({ host_path: at("nowhere") })(),
      "INVALID_ARGUMENT",
      /^config\.mounts: the host_path .*\/nowhere of the mount with container_path \/m cannot be opened: .*ENOENT/,
    ],
    [
      "a link to what is not there is none",
      () => mount({ host_path: at("dangling") })(),
      "INVALID_ARGUMENT",
      /host_path .*\/dangling .*ENOENT/,
    ],
    [
      "a source that is missing where the kernel makes no directories",
      () => ({
        ...mount({ host_path: "/proc/self/nothing/below" })(),
        labels: { "io.kubernetes.container.name": "c" },
      }),
      "INVALID_ARGUMENT",
      /host_path \/proc\/self\/nothing\/below .*ENOENT/,
    ],
    [
      "a link to itself is none",
      () => mount({ host_path: at("circle") })(),
      "INVALID_ARGUMENT",
      /host_path .*\/circle .*ELOOP/,
    ],
    [
      "a path through a file is none",
      () => mount({ host_path: at("file/x") })(),
      "INVALID_ARGUMENT",
      /host_path .*\/file\/x .*ENOTDIR/,
    ],
    [
      "a name of 256 bytes is none",
      () => mount({ host_path: at("n".repeat(256)) })(),
      "INVALID_ARGUMENT",
      /host_path .*ENAMETOOLONG/,
    ],
    [
      "a path of 4,096 bytes is none",
      mount({ host_path: `/${"a/".repeat(2047)}b` }),
      "INVALID_ARGUMENT",
      /host_path: the path is longer than 4095 bytes/,
    ],
  ]);

  test("a link is followed", async () => {
    writeFileSync(at("volume/through"), "the link");
    const mounts = [{ container_path: "/m", host_path: at("link") }];
    assert.equal((await runToEnd(place.agent, place.pod, { ...sh("cat /m/through"), mounts })).output, "the link");
  });

  test("a source that is missing is made for the kubelet's containers, and taken back when the rest fails", async () => {
    const labels = { "io.kubernetes.container.name": "c" };
    const mounts = [{ container_path: "/m", host_path: at("made/deep/inside") }];
    const devices = [{ container_path: "/etc/passwd", host_path: "/dev/null", permissions: "r" }];
    await leavesNothing(place, () =>
      fails(createContainer(place.agent, place.pod, { labels, mounts, devices }), "INVALID_ARGUMENT", /\/etc\/passwd/),
    );
    const id = await runContainer(place.agent, place.pod, {
      mounts: [{ container_path: "/b", host_path: place.agent.paths.base }],
    });
    assert.equal(await out(place.agent, id, "ls -d /b/made 2>/dev/null || echo none"), "none");
    await createContainer(place.agent, place.pod, { labels, mounts });
    assert.equal(await out(place.agent, id, "ls -d /b/made/deep/inside"), "/b/made/deep/inside");
  });
});

describe("how it is mounted", () => {
  refusedContainers(place, [
    [
      "recursively read-only is read-only",
      mount({ recursive_read_only: true }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.recursive_read_only: it needs readonly/,
    ],
    [
      "recursively read-only does not follow the host",
      mount({ recursive_read_only: true, readonly: true, propagation: 1 }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.recursive_read_only: it needs propagation PROPAGATION_PRIVATE/,
    ],
    [
      "recursively read-only mounts nothing on the host",
      mount({ recursive_read_only: true, readonly: true, propagation: 2 }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.recursive_read_only: it needs propagation/,
    ],
    [
      "a propagation is one that there is",
      mount({ propagation: 3 as never }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.propagation: 3 is no MountPropagation/,
    ],
    [
      "an option is one that restricts",
      mount({ mount_options: ["noexec", "suid"] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.mount_options\[1\]: "suid" is not supported/,
    ],
    [
      "an option is not several",
      mount({ mount_options: ["noexec,dev"] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.mount_options\[0\]/,
    ],
    [
      "an option is not empty",
      mount({ mount_options: [""] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.mount_options\[0\]/,
    ],
  ] satisfies Rule[]);
});

describe("image volumes", () => {
  const failed = /^ImageVolumeMountFailed: config\.mounts/;
  refusedContainers(place, [
    [
      "an image or a path of the host, not both",
      () => image({ host_path: at("volume") })(),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.host_path: a mount has an image or a host_path, not both/,
    ],
    [
      "the image has a name",
      image({ image: { image: "" } }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.image\.image: it names no image/,
    ],
    [
      "the digest alone is no name",
      async () => {
        const { image: found } = await place.agent.client.call("ImageStatus", { image: { image: busyboxName } });
        return image({ image: { image_ref: found?.id ?? "" } })();
      },
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.image\.image: it names no image/,
    ],
    [
      "the image is here",
      image({ image: { image: "berth.test/none:1" } }),
      "NOT_FOUND",
      /^ImageVolumeMountFailed: config\.mounts\[0\]\.image: image "berth\.test\/none:1" is not on this node/,
    ],
    [
      "it is read-only",
      image({ readonly: false }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.readonly: a mount of an image is always read-only/,
    ],
    [
      "it does not propagate",
      image({ propagation: 1 }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.propagation: a mount of an image needs PROPAGATION_PRIVATE/,
    ],
    ["a part is in the image", image({ image_sub_path: "no/such" }), "INVALID_ARGUMENT", failed],
    [
      "a part does not climb",
      image({ image_sub_path: "etc/../../x" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.image_sub_path: "etc\/\.\.\/\.\.\/x" is not a path that stays/,
    ],
    [
      "a part is relative",
      image({ image_sub_path: "/etc" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.image_sub_path/,
    ],
    [
      "a part has no NUL",
      image({ image_sub_path: "etc\0" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.image_sub_path/,
    ],
    ["a part is no link to itself", image({ image_sub_path: "circle" }), "INVALID_ARGUMENT", failed],
    ["a part is no link out of the image", image({ image_sub_path: "out" }), "INVALID_ARGUMENT", failed],
    ["a part below a file is none", image({ image_sub_path: "a-file/x" }), "INVALID_ARGUMENT", failed],
    ["a part's name has 255 bytes at most", image({ image_sub_path: "n".repeat(256) }), "INVALID_ARGUMENT", failed],
    [
      "a part's path has 4,095 bytes at most",
      image({ image_sub_path: "a/".repeat(2048) }),
      "INVALID_ARGUMENT",
      /image_sub_path/,
    ],
    [
      "it is not mounted over the root",
      image({ container_path: "/" }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.container_path/,
    ],
  ]);
});

describe("devices", () => {
  refusedContainers(place, [
    [
      "a path of the host is needed",
      device({ host_path: "" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.host_path: a path is needed/,
    ],
    [
      "it is absolute",
      device({ host_path: "dev/null" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.host_path: "dev\/null" is not absolute/,
    ],
    ["it has no NUL", device({ host_path: "/dev/null\0" }), "INVALID_ARGUMENT", /^config\.devices\[0\]\.host_path/],
    [
      "it is there",
      device({ host_path: "/dev/no-such" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.host_path: ENOENT/,
    ],
    [
      "a link to itself is none",
      () => device({ host_path: at("circle") }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.host_path: ELOOP/,
    ],
    [
      "it is a device",
      () => device({ host_path: at("file") }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.host_path: .* is no device and holds none/,
    ],
    [
      "a directory of devices is not the whole machine",
      // also of a small one
      { devices: Array.from({ length: 50 }, () => ({ container_path: "/dev/x", host_path: "/", permissions: "r" })) },
      "INVALID_ARGUMENT",
      /^config\.devices\[\d+\]\.host_path: there are more than 65536 files/,
    ],
    [
      "a directory holds devices",
      () => device({ host_path: at("volume") }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.host_path: .* is no device and holds none/,
    ],
    [
      "a path inside is absolute",
      device({ container_path: "x" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.container_path: "x" is not absolute/,
    ],
    [
      "a path inside has no NUL",
      device({ container_path: "/dev/x\0" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.container_path/,
    ],
    [
      "a path inside is not the root",
      device({ container_path: "/" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.container_path/,
    ],
    [
      "a path inside is not in /proc",
      device({ container_path: "/proc/kcore" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.container_path/,
    ],
    [
      "what lies there is not taken for it",
      device({ container_path: "/etc/passwd" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.container_path: .*"\/etc\/passwd": EEXIST/,
    ],
    [
      "none takes the place of the null device",
      device({ container_path: "/dev/null", host_path: "/dev/zero" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.container_path: .*"\/dev\/null": it is not the null device/,
    ],
    [
      "something is allowed",
      device({ permissions: "" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.permissions: "" is not made of r, w and m/,
    ],
    [
      "what is allowed is r, w and m",
      device({ permissions: "rx" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.permissions: "rx"/,
    ],
    [
      "each of them once",
      device({ permissions: "rr" }),
      "INVALID_ARGUMENT",
      /^config\.devices\[0\]\.permissions: "rr"/,
    ],
    [
      "a CDI device has a qualified name",
      { CDI_devices: [{ name: "gpu0" }] },
      "INVALID_ARGUMENT",
      /^config\.CDI_devices\[0\]\.name: "gpu0" is no CDI device name/,
    ],
    ["a CDI device has a name", { CDI_devices: [{ name: "" }] }, "INVALID_ARGUMENT", /^config\.CDI_devices\[0\]\.name/],
    [
      "a CDI device is known",
      { CDI_devices: [{ name: "vendor.test/none=all" }] },
      "INVALID_ARGUMENT",
      /vendor\.test\/none=all/,
    ],
  ]);

  test("hundreds of devices are there, each with its name", async () => {
    const devices = Array.from({ length: 500 }, (_, i) => ({
      container_path: `/dev/many/${i}`,
      host_path: "/dev/zero",
      permissions: "r",
    }));
    const { output } = await runToEnd(place.agent, place.pod, {
      ...sh("ls /dev/many | wc -l; head -c 2 /dev/many/499 | wc -c"),
      devices,
    });
    assert.equal(output, "500\n2\n");
  });
});
