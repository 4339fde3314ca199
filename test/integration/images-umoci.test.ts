/** Images of Debian's packages, built by umoci and pushed by skopeo: what a pull makes of them is what umoci unpacks. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { chmod, chown, link, mkdir, mkdtemp, rename, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { native } from "../../native/binding.js";
import { openSnapshots } from "../../sandbox/rootfs/snapshots.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";
import { type TarEntry, writeTar } from "../support/tar-writer.js";
import { attributesOf, describeTree } from "../support/trees.js";

const run = promisify(execFile);
const needed = ["skopeo", "umoci"].filter((name) => !existsSync(join("/usr/bin", name)));
const skip = needed.length > 0 && `${needed.join(" and ")} is not installed`;
/** On every Debian: set-id programs, links, directories with modes of their own. */
const packages = ["passwd", "login", "base-passwd", "libc-bin", "mount"];

describe("an image of Debian's packages", { skip }, () => {
  let directory: string;
  let registry: TestRegistry;
  let service: TestImages;
  const at = (path: string): string => join(directory, path);
  const root = (path: string): string => at(join("bundle/rootfs", path));

  /** What `change` makes of the root becomes a layer. */
  async function layer(number: number, change: () => Promise<void>): Promise<void> {
    rmSync(at("bundle"), { recursive: true, force: true });
    await run("umoci", ["unpack", "--image", `${at("layout")}:${number}`, at("bundle")]);
    await change();
    await run("umoci", ["repack", "--image", `${at("layout")}:${number + 1}`, at("bundle")]);
  }

  /** A layer that umoci would not make. */
  async function rawLayer(number: number, entries: TarEntry[]): Promise<void> {
    await writeFile(at("layer.tar"), writeTar(entries));
    const image = ["--image", `${at("layout")}:${number}`, "--tag", String(number + 1)];
    await run("umoci", ["raw", "add-layer", ...image, at("layer.tar")]);
  }

  async function install(name: string): Promise<void> {
    const { stdout } = await run("dpkg", ["-L", name]);
    const files = stdout.split("\n").filter((path) => /^\/(?:usr|etc|var)(?:\/|$)/.test(path) && existsSync(path));
    writeFileSync(at("files"), files.join("\n"));
    const options = ["--no-recursion", "--xattrs", "--xattrs-include=*", "--format=posix"];
    await run("tar", ["-cf", at("package.tar"), ...options, "-C", "/", "-T", at("files"), "--absolute-names"]);
    await run("tar", ["-xpf", at("package.tar"), "--xattrs", "--xattrs-include=*", "-C", root("/")]);
  }

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-umoci-"));
    registry = await startRegistry();
    service = await openTestImages();
    await run("umoci", ["init", "--layout", at("layout")]);
    await run("umoci", ["new", "--image", `${at("layout")}:0`]);
    await layer(0, async () => {
      for (const name of packages) await install(name);
      await mkdir(root("kinds/deep/er"), { recursive: true });
      await mkdir(root("kinds/going/er"), { recursive: true });
      await writeFile(root("kinds/file"), "1");
      await link(root("kinds/file"), root("kinds/hard"));
      await symlink("../../../nowhere", root("kinds/link"));
      await run("mknod", [root("kinds/null"), "c", "1", "3"]);
      await run("mknod", [root("kinds/disk"), "b", "259", "300000"]);
      await run("mkfifo", ["-m", "640", root("kinds/fifo")]);
      await truncate(root("kinds/file"), 0);
      await writeFile(root("kinds/holes"), "x");
      await truncate(root("kinds/holes"), 3_000_000);
      await chown(root("kinds/deep"), 4_000_000_000, 12);
      await chmod(root("kinds/deep"), 0o3751);
      await run("python3", [
        "-c",
        `import os; os.setxattr(${JSON.stringify(root("kinds/file"))}, "user.note", b"a\\x00b")`,
      ]);
      await utimes(root("kinds/deep/er"), 1_000_000_000.25, 1_000_000_000.75);
    });
    await layer(1, async () => {
      await rm(root("usr/sbin"), { recursive: true });
      await mkdir(root("usr/sbin"));
      await writeFile(root("usr/sbin/new"), "2", { mode: 0o755 });
      await rm(root("kinds/hard"));
      await rm(root("kinds/fifo"));
      await mkdir(root("kinds/fifo"));
      await writeFile(root("kinds/fifo/inside"), "2");
      await chmod(root("kinds/deep"), 0o700);
      await rename(root("kinds/null"), root("kinds/zero"));
    });
    await layer(2, async () => {
      await rm(root("kinds/fifo"), { recursive: true });
      await writeFile(root("kinds/fifo"), "a file again");
      await mkdir(root("kinds/deep/er/and"), { recursive: true });
      await chown(root("kinds/file"), 5, 6);
    });
    // of what is not there, or not any more
    await rawLayer(3, [
      // umoci gives others the time of the unpacking
      ...["", "etc/", "etc/made/", "kinds/"].map((path) => ({
        path: `./${path}`,
        type: "directory" as const,
        mode: 0o755,
      })),
      { path: "kinds/.wh.going" },
      { path: "kinds/going/.wh.er" },
      { path: "etc/.wh.new" },
      { path: "never/deep/.wh.x" },
      { path: "etc/never/.wh..wh..opq" },
      { path: "etc/made/.wh.x" },
      { path: "etc/made/file", content: "4" },
    ]);
    await rawLayer(4, [{ path: "kinds/going/.wh.and" }, { path: "kinds/going/er/.wh..wh..opq" }]);
    // its archives end right after the last file
    const inserted = ["insert", "--image", `${at("layout")}:5`, "--tag", "6"];
    await run("umoci", [...inserted, "/etc/hostname", "/kinds/inserted"]);
    await run("skopeo", [
      ...["copy", "--dest-tls-verify=false", "--insecure-policy"],
      ...[`oci:${at("layout")}:6`, `docker://${registry.host}/debian:1`],
    ]);
    rmSync(at("bundle"), { recursive: true, force: true });
    await run("umoci", ["unpack", "--image", `${at("layout")}:6`, at("bundle")]);
  });
  after(async () => {
    await service.close();
    await registry.stop();
    await rm(directory, { recursive: true, force: true });
  });

  it("has the same content, modes, owners, times, links, devices and attributes", async () => {
    const { layers } = await service.images.pull({ reference: `${registry.host}/debian:1` });
    assert.equal(layers.length, 6);
    const snapshots = await openSnapshots(service.root, service.layers);
    const fd = await snapshots.mountImage({ layers, subPath: "" });
    await mkdir(at("mount"));
    try {
      await native.attachMount(fd, at("mount"));
      const [ours, theirs] = [await describeTree(at("mount")), await describeTree(root("/"))];
      assert.ok(theirs.size > 300, `${theirs.size} files`);
      assert.deepEqual(ours, theirs);
      for (const path of ["kinds/file", "kinds/deep", "usr", "kinds/holes"]) {
        assert.deepEqual(attributesOf(at(join("mount", path))), attributesOf(root(path)));
      }
    } finally {
      await native.unmount(at("mount"));
      native.closeDescriptor(fd);
    }
  });
});
