/** `berth image`, as people type it. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type BuiltImage, buildBusyboxImage, buildImage, dockerArchive } from "../support/image-builder.js";
import { writeTar } from "../support/tar-writer.js";
import { createContainer, removePod, runPod } from "../support/workload.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

describe("berth image", () => {
  let agent: TestAgent;
  let image: BuiltImage;

  const berth = async (...args: string[]): Promise<string> => {
    const env = { ...process.env, BERTH_SOCKET: agent.socket };
    return (await run(process.execPath, [program, ...args], { env })).stdout;
  };
  const file = (name: string): string => join(agent.paths.base, name);
  const fails = async (why: RegExp, code: number, ...args: string[]): Promise<void> => {
    await assert.rejects(berth("image", ...args), (error: { code: number; stderr: string }) => {
      assert.equal(error.code, code);
      assert.match(error.stderr, why);
      return true;
    });
  };

  before(async () => {
    agent = await startAgent({ flags: { "pinned-images": "kept.test/*" } });
    image = await buildBusyboxImage();
    writeFileSync(file("busybox.tar"), dockerArchive(image, ["cli.test/busybox:1"]));
  });
  after(() => agent.stop());

  it("imports, tags, lists, inspects and tells the history", async () => {
    assert.equal(await berth("image", "import", file("busybox.tar")), `${image.id} cli.test/busybox:1\n`);
    assert.equal(
      await berth("image", "tag", "cli.test/busybox:1", "mine", "kept.test/x:1"),
      "docker.io/library/mine:latest\nkept.test/x:1\n",
    );
    const list = await berth("image", "ls", "mine");
    assert.match(list, /^cli\.test\/busybox:1 .*\ndocker\.io\/library\/mine:latest .*\nkept/m);
    assert.equal(await berth("images", "-q"), `${image.id}\n`);
    assert.equal(await berth("image", "list", "other", "-q"), "");
    const [told, ...more] = JSON.parse(await berth("image", "inspect", image.id.slice(7, 19)));
    assert.equal(more.length, 0);
    assert.equal(told.id, image.id);
    assert.deepEqual(told.repoTags, ["cli.test/busybox:1", "docker.io/library/mine:latest", "kept.test/x:1"]);
    assert.deepEqual(told.configuration, JSON.parse(image.configuration.bytes.toString()));
    assert.equal(told.pinned, true);
    assert.equal(told.layers.length, 2);
    const history = (await berth("image", "history", "mine")).trimEnd().split("\n");
    assert.equal(history.length, 3);
    assert.match(history[0] ?? "", /^CREATED +CREATED BY +SIZE +COMMENT$/);
    for (const command of ["inspect", "history", "rm"])
      await fails(/there is no image "nothing"/, 4, command, "nothing");
    await fails(/image "nothing" is not on this node/, 4, "tag", "nothing", "x");
    await fails(/has a digest/, 2, "tag", "mine", `x@${image.id}`);
  });

  it("makes an image of a root file system, and exports it", async () => {
    writeFileSync(file("root.tar"), writeTar([{ path: "hello", content: "world" }]));
    const told = await berth(
      "image",
      "import",
      file("root.tar"),
      "--rootfs",
      "--name",
      "rooted",
      "--change",
      "CMD sh",
      "--change",
      "USER 5",
    );
    assert.match(told, /^sha256:[0-9a-f]{64} docker\.io\/library\/rooted:latest\n$/);
    const [{ configuration }] = JSON.parse(await berth("image", "inspect", "rooted"));
    assert.deepEqual(configuration.config, { Cmd: ["/bin/sh", "-c", "sh"], User: "5" });
    assert.match(
      await berth("image", "export", "rooted", "mine", "-o", file("out.tar")),
      /^sha256:\S+ docker\.io.*\nsha256:\S+ cli/,
    );
    assert.ok(existsSync(file("out.tar")));
    await fails(/is there already/, 5, "export", "rooted", "-o", file("out.tar"));
    await fails(/only an image that is made of a root/, 2, "import", file("root.tar"), "--change", "CMD sh");
    await berth("image", "rm", "rooted");
  });

  it("prunes what nobody uses and nobody pinned, with --all what has a tag, too", async () => {
    const named = buildImage({ layers: [[{ path: "named", content: "1" }]] });
    const nameless = buildImage({ layers: [[{ path: "nameless", content: "2" }]] });
    const used = buildImage({ layers: image.tars, config: { Cmd: ["sh"], Labels: { used: "yes" } } });
    for (const [built, tags] of [
      [named, ["a:1"]],
      [nameless, []],
      [used, []],
    ] as const) {
      writeFileSync(file("more.tar"), dockerArchive(built, [...tags]));
      await berth("image", "import", file("more.tar"));
    }
    const pod = await runPod(agent);
    await createContainer(agent, pod, { image: { image: used.id } });
    assert.match(await berth("image", "prune"), new RegExp(`^${nameless.id}\n1 images removed, 0\\.0 MB freed\n$`));
    assert.match(await berth("image", "prune", "-a"), new RegExp(`^${named.id} docker.io/library/a:1\n1 images`));
    await removePod(agent, pod);
    const { images, freed_bytes } = JSON.parse(await berth("image", "prune", "--all", "--json"));
    assert.deepEqual(images, [{ id: used.id, names: [] }]);
    assert.equal(freed_bytes, "0", "its layers are the pinned image's, too");
    assert.equal(await berth("images", "-q"), `${image.id}\n`);
    assert.equal(await berth("image", "remove", "mine"), `${image.id}\n`);
  });
});
