import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { countDiskIo } from "./disk-accounting.js";

function host(t: TestContext, limits: string, disks: Record<string, { dev: string; size: string }>) {
  const root = mkdtempSync(join(tmpdir(), "berth-disks-"));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [name, { dev, size }] of Object.entries(disks)) {
    mkdirSync(join(root, "block", name), { recursive: true });
    writeFileSync(join(root, "block", name, "dev"), `${dev}\n`);
    writeFileSync(join(root, "block", name, "size"), `${size}\n`);
  }
  const file = join(root, "blkio.throttle.read_bps_device");
  writeFileSync(file, limits);
  return { root, blockDevices: join(root, "block"), written: () => readFileSync(file, "utf8") };
}

describe("disks whose IO v1 counts", () => {
  const vda = { dev: "254:0", size: "2048" };
  const idle = { dev: "7:0", size: "0" };
  const blkio = (mountPoint: string, version: 1 | 2 = 1) => [{ version, mountPoint, controllers: ["blkio"], name: "" }];

  it("have a limit of none, those alone that have blocks", (t) => {
    const { root, blockDevices, written } = host(t, "", { loop0: idle, vda });
    countDiskIo(blkio(root), blockDevices);
    assert.equal(written(), "254:0 0");
  });

  it("keep the limit that they have", (t) => {
    const { root, blockDevices, written } = host(t, "254:0 1000\n", { vda });
    countDiskIo(blkio(root), blockDevices);
    assert.equal(written(), "254:0 1000\n");
  });

  it("are none without v1's controller, or without the kernel's", (t) => {
    const { root, blockDevices, written } = host(t, "", { vda });
    countDiskIo(blkio(root, 2), blockDevices);
    countDiskIo([], blockDevices);
    assert.equal(written(), "");
    countDiskIo(blkio(join(root, "missing")), blockDevices);
  });
});
