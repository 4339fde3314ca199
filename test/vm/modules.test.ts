import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { dependsOf, moduleOrder } from "./modules.js";

async function withModules(modules: Record<string, string>, body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "berth-modules-"));
  try {
    await writeFile(join(directory, "modules.builtin"), "kernel/lib/built-in.ko\n");
    for (const [path, depends] of Object.entries(modules)) {
      const file = join(directory, "kernel", path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, `ELF...license=GPL\0depends=${depends}\0name=x\0`);
    }
    await body(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

test("a module comes after all that it needs, once, and what is built in is left out", () =>
  withModules({ "net/top.ko": "mid-dle,base,built_in", "lib/mid-dle.ko": "base", "base.ko": "" }, async (directory) => {
    const order = await moduleOrder(directory, ["top", "base"]);
    assert.deepEqual(
      order.map((path) => basename(path)),
      ["base.ko", "mid-dle.ko", "top.ko"],
    );
  }));

test("a module that the kernel lacks is named", () =>
  withModules({ "top.ko": "gone" }, (directory) => assert.rejects(moduleOrder(directory, ["top"]), /no module gone/)));

test("a module without a depends line needs nothing", () => {
  assert.deepEqual(dependsOf(Buffer.from("ELF")), []);
});
