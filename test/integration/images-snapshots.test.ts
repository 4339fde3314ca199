import assert from "node:assert/strict";
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { native } from "../../native/binding.js";
import { openSnapshots, type Snapshots } from "../../sandbox/rootfs/snapshots.js";
import { buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { measured } from "../support/measured.js";

describe("root file systems", () => {
  let service: TestImages;
  let snapshots: Snapshots;
  let chain: string[];
  let target: string;

  before(async () => {
    service = await openTestImages();
    snapshots = await openSnapshots(service.root, service.layers);
    target = await mkdtemp(join(tmpdir(), "berth-rootfs-"));
    const image = buildImage({
      layers: [
        [
          { path: "./", type: "directory", mode: 0o751, uid: 3 },
          { path: "etc", type: "directory", mode: 0o700, gid: 9 },
          { path: "etc/one", content: "1" },
          { path: "etc/gone", content: "1" },
          { path: "replaced/old", content: "1" },
          { path: "opaque/old", content: "1" },
          { path: "copied", content: "original" },
        ],
        [
          { path: "etc/.wh.gone" },
          { path: "etc/two", content: "2" },
          { path: ".wh.replaced" },
          { path: "replaced/new", content: "2" },
          { path: "opaque/.wh..wh..opq" },
          { path: "opaque/new", content: "2" },
        ],
      ],
    });
    const registry = await startLyingRegistry(image);
    try {
      const record = await service.images.pull({ reference: `${registry.host}/x:1` });
      chain = record.layers;
    } finally {
      await registry.stop();
    }
  });
  after(async () => {
    await service.close();
    await rm(target, { recursive: true, force: true });
  });

  const mounted = async (
    containerId: string,
    layers: string[],
    use: (upper: string) => Promise<void>,
  ): Promise<void> => {
    const { rootFd, upperDirectory } = await snapshots.prepareRootfs({ containerId, layers });
    try {
      await native.attachMount(rootFd, target);
      try {
        await use(upperDirectory);
      } finally {
        await native.unmount(target);
      }
    } finally {
      native.closeDescriptor(rootFd);
      await snapshots.removeRootfs(containerId);
    }
  };

  it("show the layers as one tree, with whiteouts, opaque directories and inherited modes", () =>
    mounted("c1", chain, async () => {
      const root = await stat(target);
      assert.deepEqual([root.mode & 0o7777, root.uid], [0o751, 3]);
      // with what is mounted over in every container
      assert.deepEqual((await readdir(join(target, "etc"))).sort(), ["hostname", "hosts", "one", "resolv.conf", "two"]);
      const etc = await stat(join(target, "etc"));
      assert.deepEqual([etc.mode & 0o7777, etc.gid], [0o700, 9]);
      assert.deepEqual(await readdir(join(target, "replaced")), ["new"]);
      assert.deepEqual(await readdir(join(target, "opaque")), ["new"]);
    }));

  it("copy on write, and measure it", () =>
    mounted("c2", chain, async (upper) => {
      await writeFile(join(target, "copied"), "changed".repeat(10_000));
      assert.equal(await readFile(join(service.layers.path(chain[0] as string), "copied"), "utf8"), "original");
      assert.deepEqual(await readdir(upper), ["copied"]);
      const usage = await measured(snapshots, "c2");
      assert.ok(usage.bytes >= 70_000 && usage.bytes < 200_000, String(usage.bytes));
      assert.ok(usage.inodes >= 2);
      await writeFile(join(target, "more"), "x");
      assert.equal(await snapshots.writableLayerUsage("c2"), usage);
    }));

  it("work without any layer", () =>
    mounted("c3", [], async (upper) => {
      await mkdir(join(target, "made"));
      assert.ok((await lstat(join(upper, "made"))).isDirectory());
    }));

  it("are removed once and for all, and leave nothing when they fail", async () => {
    await assert.rejects(snapshots.prepareRootfs({ containerId: "c4", layers: [`sha256:${"0".repeat(64)}`] }));
    await assert.rejects(snapshots.prepareRootfs({ containerId: "../c4", layers: [] }), { kind: "INVALID_ARGUMENT" });
    await snapshots.removeRootfs("c4");
    await snapshots.removeRootfs("c1");
    assert.deepEqual(await snapshots.listRootfs(), []);
    await assert.rejects(measured(snapshots, "c1"), { kind: "NOT_FOUND" });
  });

  it("tell what all layers take without a walk", () => {
    const usage = snapshots.imageFsUsage();
    assert.equal(
      usage.bytes,
      service.layers.list().reduce((sum, layer) => sum + layer.bytes, 0),
    );
    assert.ok(usage.inodes > 10);
  });
});
