/** The CRI's ImageService over its socket: one identifier over all calls, filters, streams, deadlines, metrics. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type BuiltImage, buildBusyboxImage, buildImage, dockerArchive, pushImage } from "../support/image-builder.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";
import { startSlowRegistry } from "../support/slow-registry.js";
import { writeTar } from "../support/tar-writer.js";
import { unpackers } from "../support/unpackers.js";
import { createContainer, fails, removePod, runPod } from "../support/workload.js";

describe("the image service", () => {
  let agent: TestAgent;
  let registry: TestRegistry;
  let name: string;
  let image: BuiltImage;
  let digest: string;

  before(async () => {
    registry = await startRegistry();
    agent = await startAgent({ flags: { "pinned-images": `${registry.host}/pinned/*` } });
    const busybox = await buildBusyboxImage();
    image = buildImage({
      layers: busybox.tars,
      config: { Env: ["PATH=/bin"], Cmd: ["sh"], Labels: { made: "here" }, User: "app" },
      annotations: { "org.example.note": "kept" },
    });
    name = `${registry.host}/calls/busybox`;
    digest = await pushImage(registry.url, "calls/busybox", "1", image);
    await pushImage(registry.url, "calls/busybox", "2", image);
    await pushImage(registry.url, "pinned/busybox", "1", image);
  });
  after(async () => {
    await registry.stop();
    await agent.stop();
  });

  const pull = async (reference: string, more: runtime.v1.IImageSpec = {}): Promise<string> => {
    const answer = await agent.client.call("PullImage", { image: { image: reference, ...more } });
    return answer.image_ref;
  };
  const statusOf = async (reference: string): Promise<runtime.v1.IImage | null | undefined> =>
    (await agent.client.call("ImageStatus", { image: { image: reference } })).image;
  const list = async (reference?: string): Promise<runtime.v1.IImage[]> => {
    const filter = reference === undefined ? {} : { filter: { image: { image: reference } } };
    return (await agent.client.call("ListImages", filter)).images;
  };
  const metric = async (line: RegExp): Promise<number> => {
    const text = await (await fetch(agent.metricsUrl)).text();
    const [, value] = line.exec(text) ?? [];
    return Number(value ?? "0");
  };

  it("calls an image the same in every call, however it was asked for", async () => {
    const references = [`${name}:1`, `${name}:2`, `${name}@${digest}`, `${name}:nonsense@${digest}`];
    for (const reference of references) assert.equal(await pull(reference), image.id, reference);
    const more = {
      annotations: { "example.org/a": "b" },
      runtime_handler: "berth",
      user_specified_image: "busybox",
    };
    assert.equal(await pull(`${name}:1`, more), image.id);
    const nobodys = pull(`${name}:1`, { runtime_handler: "nobody" });
    await fails(nobodys, "INVALID_ARGUMENT", /^image\.runtime_handler: "nobody" is not known/);
    const all = [...references, image.id, image.id.slice("sha256:".length), image.id.slice(7, 20)];
    for (const reference of all) {
      assert.equal((await statusOf(reference))?.id, image.id, reference);
      const [found, ...others] = await list(reference);
      assert.equal(found?.id, image.id, reference);
      assert.deepEqual(found?.repo_tags, [`${name}:1`, `${name}:2`]);
      assert.deepEqual(found?.repo_digests, [`${name}@${digest}`]);
      assert.equal(found?.username, "app");
      assert.equal(found?.pinned, false);
      assert.deepEqual(found?.spec?.annotations, { "org.example.note": "kept" });
      assert.equal(others.length, 0);
    }
    assert.equal(await statusOf(`${name}:3`), null);
    assert.deepEqual(await list(`${name}:3`), []);
    assert.equal((await list()).length, 1);
  });

  it("tells everything about an image when it is asked to be verbose", async () => {
    const answer = await agent.client.call("ImageStatus", { image: { image: image.id }, verbose: true });
    const info = JSON.parse(answer.info["info"] ?? "");
    assert.deepEqual(info.imageSpec, JSON.parse(image.configuration.bytes.toString()));
    assert.deepEqual(info.labels, { made: "here" });
    assert.deepEqual(info.annotations, { "org.example.note": "kept" });
    assert.equal(info.layers.length, 2);
    assert.equal(info.chainID, info.layers[1].chainID);
    assert.equal(info.layers[0].chainID, info.layers[0].diffID);
    assert.ok(info.layers[0].bytes > 1_000_000);
    const quiet = await agent.client.call("ImageStatus", { image: { image: image.id } });
    assert.deepEqual(quiet.info, {});
  });

  it("gives back a container's image as it was asked for", async () => {
    const pod = await runPod(agent);
    const asked = {
      image: image.id,
      user_specified_image: `${name}:1`,
      annotations: { "example.org/a": "b" },
      runtime_handler: "",
    };
    const id = await createContainer(agent, pod, { image: asked });
    const { status: told } = await agent.client.call("ContainerStatus", { container_id: id });
    assert.equal(told?.image_id, image.id);
    assert.equal(told?.image_ref, `${name}@${digest}`);
    assert.equal(told?.image?.user_specified_image, `${name}:1`);
    assert.deepEqual(told?.image?.annotations, { "example.org/a": "b" });
    const { containers } = await agent.client.call("ListContainers", {});
    assert.equal(containers[0]?.image_id, image.id);
    await removePod(agent, pod);
  });

  it("removes an image with all its names, by any of them, and is content when it is gone", async () => {
    for (const reference of [`${name}@${digest}`, `${name}:2`, image.id, image.id.slice(7, 19)]) {
      await pull(`${name}:1`);
      await pull(`${name}:2`);
      await agent.client.call("RemoveImage", { image: { image: reference } });
      assert.deepEqual(await list(), [], reference);
      assert.equal(await statusOf(`${name}:1`), null);
      await agent.client.call("RemoveImage", { image: { image: reference } });
    }
  });

  it("knows an image of two registries as one, with the names of both", async () => {
    const other = await startLyingRegistry(image);
    const elsewhere = `${other.host}/else/where`;
    assert.equal(await pull(`${name}:1`), image.id);
    assert.equal(await pull(`${elsewhere}:9`), image.id);
    const [found, ...more] = await list();
    assert.equal(more.length, 0);
    assert.deepEqual(found?.repo_tags, [`${name}:1`, `${elsewhere}:9`]);
    assert.deepEqual(found?.repo_digests, [`${name}@${digest}`, `${elsewhere}@${digest}`]);
    await agent.client.call("RemoveImage", { image: { image: `${elsewhere}:9` } });
    assert.deepEqual(await list(), []);
    await other.stop();
  });

  it("asks the registry again for an image that is there: whoever has no credentials is refused", async () => {
    const guarded = await startLyingRegistry(image, (request, response) => {
      if (request.headers.authorization === `Basic ${Buffer.from("me:secret").toString("base64")}`) return false;
      response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
      return true;
    });
    const question = { image: { image: `${guarded.host}/x/y:1` } };
    const own = { username: "me", password: "secret" };
    const ask = async (auth?: runtime.v1.IAuthConfig): Promise<string> =>
      (await agent.client.call("PullImage", { ...question, ...(auth && { auth }) })).image_ref;
    assert.equal(await ask(own), image.id);
    await assert.rejects(ask(), { code: status.PERMISSION_DENIED });
    await assert.rejects(ask({ username: "me", password: "wrong" }), { code: status.PERMISSION_DENIED });
    assert.equal((await statusOf(question.image.image))?.id, image.id);
    assert.equal(await ask(own), image.id);
    const layers = guarded.seen.filter(({ path }) => path.endsWith(image.layers[0]?.digest ?? ""));
    assert.equal(layers.length, 1, "no layer came twice");
    assert.ok(!agent.logs().includes("secret"));
    await agent.client.call("RemoveImage", question);
    await guarded.stop();
  });

  it("tells what images and containers take", async () => {
    const usage = async (): Promise<runtime.v1.ImageFsInfoResponse> => agent.client.call("ImageFsInfo", {});
    const bytes = (list: readonly runtime.v1.IFilesystemUsage[]): number => Number(list[0]?.used_bytes?.value ?? -1);
    const empty = await usage();
    assert.equal(empty.image_filesystems[0]?.fs_id?.mountpoint, join(agent.paths.root, "layers"));
    assert.equal(empty.container_filesystems[0]?.fs_id?.mountpoint, join(agent.paths.root, "containers"));
    assert.equal(bytes(empty.image_filesystems), 0);
    await pull(`${name}:1`);
    const size = Number((await statusOf(`${name}:1`))?.size ?? 0);
    const full = await usage();
    assert.equal(bytes(full.image_filesystems), size - image.configuration.bytes.length);
    assert.ok(Number(full.image_filesystems[0]?.inodes_used?.value) > 10);
    assert.ok(Math.abs(Number(full.image_filesystems[0]?.timestamp) / 1e6 - Date.now()) < 60_000);
    const pod = await runPod(agent);
    await createContainer(agent, pod, { image: { image: image.id } });
    assert.ok(bytes((await usage()).container_filesystems) > bytes(empty.container_filesystems));
    await removePod(agent, pod);
    await agent.client.call("RemoveImage", { image: { image: image.id } });
    assert.equal(bytes((await usage()).image_filesystems), 0);
  });

  it("pins the images that the configuration names", async () => {
    await pull(`${name}:1`);
    await pull(`${registry.host}/pinned/busybox:1`);
    assert.deepEqual(
      (await list()).map(({ pinned }) => pinned),
      [true],
    );
    assert.equal((await statusOf(image.id))?.pinned, true);
    await agent.client.call("RemoveImage", { image: { image: image.id } });
  });

  it("streams the list, too: all images, or those that a filter names", async () => {
    const layer = writeTar([{ path: "a" }]);
    const images = [1, 2, 3].map((n) => buildImage({ layers: [layer], config: { Labels: { n: `${n}` } } }));
    for (const [n, built] of images.entries()) {
      const path = join(agent.paths.base, `${n}.tar`);
      await writeFile(path, dockerArchive(built, [`many.test/image:${n}`]));
      await agent.client.call("ImportImage", { path });
    }
    const stream = async (filter?: runtime.v1.IImageFilter): Promise<(string | null | undefined)[]> => {
      const found: runtime.v1.IImage[] = [];
      for await (const answer of agent.client.stream("StreamImages", filter ? { filter } : {})) {
        found.push(...(answer as runtime.v1.StreamImagesResponse).images);
      }
      return found.map(({ id }) => id);
    };
    const ids = images.map(({ id }) => id);
    assert.deepEqual(
      (await list()).map(({ id }) => id),
      ids,
    );
    assert.deepEqual(await stream(), ids);
    assert.deepEqual(await stream({ image: { image: "many.test/image:1" } }), [ids[1]]);
    for (const id of ids) await agent.client.call("RemoveImage", { image: { image: id } });
    assert.deepEqual(await stream(), []);
  });

  it("ends a pull at its caller's deadline and leaves nothing", async () => {
    const slow = await startSlowRegistry(image);
    const before = await metric(/^berth_call_errors_total\{method="PullImage",code="DEADLINE_EXCEEDED"\} (\d+)$/m);
    const question = { image: { image: `${slow.host}/slow/image:1` } };
    const pulled = agent.client.call("PullImage", question, 1_500);
    await until(() => slow.asked().length === 2);
    slow.send(image.layers[0]?.digest ?? "", 1000);
    assert.equal(await metric(/^berth_image_pulls_in_flight\{priority="normal"\} (\d+)$/m), 1);
    await assert.rejects(pulled, { code: status.DEADLINE_EXCEEDED });
    await until(() => image.layers.every((layer) => slow.hungUp(layer.digest)));
    await slow.stop();
    await until(async () => (await metric(/^berth_image_pulls_in_flight\{priority="normal"\} (\d+)$/m)) === 0);
    const after = await metric(/^berth_call_errors_total\{method="PullImage",code="DEADLINE_EXCEEDED"\} (\d+)$/m);
    assert.equal(after, before + 1);
    assert.deepEqual(await list(), []);
    assert.deepEqual(unpackers(agent.paths.root), []);
    assert.deepEqual(readdirSync(join(agent.paths.root, "layers")), []);
  });

  it("tells of pulls in metrics: bytes, steps, failures by kind", async () => {
    const bytesLine = /^berth_image_pull_bytes_total (\d+)$/m;
    const steps = ["resolve", "download", "unpack", "commit"];
    const stepLine = (step: string): RegExp =>
      new RegExp(`^berth_step_duration_seconds_count\\{operation="pull-image",step="${step}"\\} (\\d+)$`, "m");
    const before = await metric(bytesLine);
    const counts = await Promise.all(steps.map((step) => metric(stepLine(step))));
    await pull(`${name}:1`);
    const compressed = image.layers.reduce((sum, layer) => sum + layer.bytes.length, 0);
    assert.equal(await metric(bytesLine), before + compressed);
    for (const [index, step] of steps.entries()) {
      assert.equal(await metric(stepLine(step)), (counts[index] ?? 0) + (step === "resolve" ? 1 : 2), step);
    }
    const failures = /^berth_image_pull_errors_total\{kind="NOT_FOUND"\} (\d+)$/m;
    const failed = await metric(failures);
    await assert.rejects(pull(`${name}:none`), { code: status.NOT_FOUND });
    assert.equal(await metric(failures), failed + 1);
    await agent.client.call("RemoveImage", { image: { image: image.id } });
  });
});

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 5_000; !(await holds()); await sleep(10)) {
    if (Date.now() > end) assert.fail("it did not become so within 5 s");
  }
}
