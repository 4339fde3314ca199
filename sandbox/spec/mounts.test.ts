import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { parseImageVolumeSource } from "./image-volumes.js";
import { maskedPaths } from "./masked-paths.js";
import { type MountInput, mounts } from "./mounts.js";
import { containerConfig, specInput, withSecurity } from "./spec-fixtures.js";

const { podFiles } = specInput();
const build = (list: Record<string, unknown>[], more: Partial<MountInput> = {}) =>
  mounts({
    config: containerConfig({ mounts: list }),
    podFiles,
    privileged: false,
    readonlyRootfs: false,
    hostIpc: false,
    users: undefined,
    ...more,
  });
const at = (list: ReturnType<typeof build>, destination: string) => list.filter((m) => m.destination === destination);

test("the outer mounts come first, ours and the request's", () => {
  const list = build([
    { container_path: "/a/b/c", host_path: "/1" },
    { container_path: "/dev/x/y", host_path: "/2" },
    { container_path: "/a", host_path: "/3" },
  ]).map(({ destination }) => destination);
  assert.ok(list.indexOf("/a") < list.indexOf("/a/b/c"));
  assert.ok(list.indexOf("/dev") < list.indexOf("/dev/x/y"));
  assert.ok(list.indexOf("/sys") < list.indexOf("/sys/fs/cgroup"));
});

test("the request's mounts win over ours", () => {
  for (const path of ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/sys/fs/cgroup", "/sys"]) {
    const [only, ...more] = at(build([{ container_path: `${path}/`, host_path: "/x" }]), path);
    assert.equal(only?.source, "/x", path);
    assert.equal(more.length, 0, path);
  }
  const ownDev = build([{ container_path: "/dev", host_path: "/dev" }]).map(({ destination }) => destination);
  assert.deepEqual(
    ownDev.filter((path) => path.startsWith("/dev")),
    ["/dev"],
  );
});

test("options: read-only, recursively, propagation, further ones", () => {
  const options = (mount: Record<string, unknown>) =>
    at(build([{ container_path: "/m", host_path: "/h", ...mount }]), "/m")[0]?.options;
  assert.deepEqual(options({}), ["rbind", "rprivate", "rw"]);
  assert.deepEqual(options({ readonly: true }), ["rbind", "rprivate", "ro"]);
  assert.deepEqual(options({ readonly: true, recursive_read_only: true }), ["rbind", "rprivate", "rro"]);
  assert.deepEqual(options({ propagation: "PROPAGATION_HOST_TO_CONTAINER" }), ["rbind", "rslave", "rw"]);
  assert.deepEqual(options({ propagation: "PROPAGATION_BIDIRECTIONAL", readonly: true }), ["rbind", "rshared", "ro"]);
  assert.deepEqual(options({ mount_options: ["nosuid", "noexec"] }), ["rbind", "rprivate", "rw", "nosuid", "noexec"]);
});

test("privileged may write to /sys and cgroups; a read-only root has read-only files of the pod", () => {
  const access = (privileged: boolean) =>
    ["/sys", "/sys/fs/cgroup"].map((path) => at(build([], { privileged }), path)[0]?.options.at(-1));
  assert.deepEqual(access(false), ["ro", "ro"]);
  assert.deepEqual(access(true), ["rw", "rw"]);
  assert.deepEqual(at(build([], { readonlyRootfs: true }), "/etc/hosts")[0]?.options, ["rbind", "rprivate", "ro"]);
});

test("with the host's IPC /dev/shm is the host's", () => {
  assert.equal(at(build([], { hostIpc: true }), "/dev/shm")[0]?.source, "/dev/shm");
  assert.equal(at(build([]), "/dev/shm")[0]?.type, "tmpfs");
});

const ofImage = { container_path: "/m", readonly: true, image: { image: "i", image_ref: "sha256:ab" } };

test("a mount of an image is a read-only bind whose source names the image and the part of it", () => {
  const [mount] = at(build([{ ...ofImage, image_sub_path: "etc/x", mount_options: ["noexec"] }]), "/m");
  assert.deepEqual(mount?.options, ["rbind", "rprivate", "ro", "nosuid", "nodev", "noexec"]);
  assert.deepEqual(parseImageVolumeSource(mount?.source ?? ""), { imageId: "sha256:ab", subPath: "etc/x" });
  assert.deepEqual(parseImageVolumeSource(at(build([ofImage]), "/m")[0]?.source ?? ""), {
    imageId: "sha256:ab",
    subPath: "",
  });
  assert.equal(parseImageVolumeSource("/srv"), null);
});

test("mounts that cannot be are refused by field", () => {
  const good = { container_path: "/m", host_path: "/h" };
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ host_path: "/h" }, /config\.mounts\[0\]\.container_path: a path is needed/],
    [{ container_path: "m", host_path: "/h" }, /config\.mounts\[0\]\.container_path: "m" is not absolute/],
    [{ container_path: "/..", host_path: "/h" }, /container_path: nothing can be mounted over the root/],
    [{ container_path: "/m\0", host_path: "/h" }, /container_path.*NUL/],
    [{ container_path: "/m" }, /config\.mounts\[0\]\.host_path: a path is needed/],
    [{ container_path: "/m", host_path: "../h" }, /host_path: "\.\.\/h" is not absolute/],
    [{ container_path: "/proc", host_path: "/h" }, /container_path: \/proc is part of the container's own \/proc/],
    [{ container_path: "/sys/../proc/self/attr", host_path: "/h" }, /own \/proc/],
    [{ ...good, recursive_read_only: true }, /recursive_read_only: it needs readonly/],
    [
      { ...good, readonly: true, recursive_read_only: true, propagation: 1 },
      /recursive_read_only: it needs propagation/,
    ],
    [
      { ...good, readonly: true, recursive_read_only: true, propagation: 2 },
      /recursive_read_only: it needs propagation/,
    ],
    [{ ...good, propagation: 9 }, /propagation: 9/],
    [{ ...good, mount_options: ["suid"] }, /mount_options\[0\]: "suid"/],
    [{ ...good, image: { image: "i" } }, /host_path: a mount has an image or a host_path/],
    [{ container_path: "/m", image: { image: "" } }, /config\.mounts\[0\]\.image\.image: it names no image/],
    [{ ...ofImage, readonly: false }, /config\.mounts\[0\]\.readonly: .*always read-only/],
    [{ ...ofImage, propagation: 1 }, /propagation: .*PROPAGATION_PRIVATE/],
    [{ ...ofImage, image_sub_path: "/etc" }, /image_sub_path: "\/etc" is not a path that stays/],
    [{ ...ofImage, image_sub_path: "a/../../b" }, /image_sub_path/],
    [{ ...ofImage, image_sub_path: "a\0b" }, /image_sub_path/],
    [{ container_path: `/${"x".repeat(5000)}`, host_path: "/h" }, /container_path: the path is longer/],
  ];
  for (const [mount, message] of bad) {
    assert.throws(
      () => build([mount]),
      (error) => error instanceof InvalidArgumentError && message.test(error.message),
    );
  }
  assert.throws(() => build([{ ...good, uidMappings: [{ length: 1 }] }]), /gidMappings: there is no mapping/);
  // as the kubelet sends it
  assert.equal(at(build([{ ...good, image_sub_path: "x" }]), "/m").length, 1);
  assert.equal(at(build([{ container_path: "/proc/meminfo", host_path: "/h" }]), "/proc/meminfo").length, 1);
});

test("masked and read-only paths: as given, the field's when nothing is, none when privileged", () => {
  const paths = (context: Record<string, unknown>, options = { privileged: false, ownUserNamespace: false }) =>
    maskedPaths(withSecurity(context).linux?.security_context, options);
  assert.deepEqual(paths({ masked_paths: ["/bin/ls"] }), { masked: ["/bin/ls"], readonly: [] });
  assert.deepEqual(paths({ readonly_paths: ["/tmp/"] }), { masked: [], readonly: ["/tmp"] });
  assert.ok(paths({}).masked.includes("/proc/kcore"));
  assert.ok(maskedPaths(null, { privileged: false, ownUserNamespace: false }).readonly.includes("/proc/sys"));
  assert.deepEqual(paths({}, { privileged: false, ownUserNamespace: true }), { masked: [], readonly: [] });
  assert.deepEqual(paths({ masked_paths: ["/x"] }, { privileged: true, ownUserNamespace: false }), {
    masked: [],
    readonly: [],
  });
  assert.throws(() => paths({ masked_paths: ["x"] }), /masked_paths\[0\]: "x" is not absolute/);
});

test("id mappings are the mount's own; an image's are its pod's", () => {
  const ids = [{ container_id: 0, host_id: 100_000, length: 10 }];
  const range = { containerID: 0, hostID: 100_000, size: 10 };
  const users = { uids: { ...range, hostID: 7 }, gids: { ...range, hostID: 7 } };
  const volume = { container_path: "/data", host_path: "/srv" };
  const image = { container_path: "/image", image: { image: "x", image_ref: "sha256:1" }, readonly: true };
  const mapped = build([{ ...volume, uidMappings: ids, gidMappings: ids }], { users });
  assert.deepEqual(at(mapped, "/data")[0]?.uidMappings, [range]);
  assert.equal(at(build([volume], { users }), "/data")[0]?.uidMappings, undefined);
  assert.deepEqual(at(build([image], { users }), "/image")[0]?.gidMappings, [users.gids]);
  assert.equal(at(build([image]), "/image")[0]?.gidMappings, undefined);
  assert.throws(() => build([{ ...volume, propagation: 2 }], { users }), /\.propagation: PROPAGATION_BIDIRECTIONAL/);
});

test("the terminals' group is left out where it has no number", () => {
  const options = (size: number) => {
    const range = { containerID: 0, hostID: 100_000, size };
    return at(build([], { users: { uids: range, gids: range } }), "/dev/pts")[0]?.options ?? [];
  };
  assert.ok(options(6).includes("gid=5"));
  assert.ok(!options(5).includes("gid=5"));
});
