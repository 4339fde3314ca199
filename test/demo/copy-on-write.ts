/** Copy on write: what a container changes is its own, and the layers stay as they are. */
import { createHash } from "node:crypto";
import { existsSync, lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type DemoContainer, exec, infoOf, removePods, runContainer, startPod } from "./pods.js";
import { type Demo, notes, notesPath } from "./setup.js";

const added = "This line was added by container one.";

export async function showCopyOnWrite(demo: Demo): Promise<void> {
  const { agent, screen } = demo;
  screen.title(
    "Copy on write",
    "A container's root is an overlay: the image's layers, which are only read, and on top of them an empty directory of " +
      "the container's own, the upper directory. What the container changes is first copied up into it. So a thousand " +
      "containers can share one copy of an image.",
  );
  const pod = await startPod(demo, "writers");
  const one = await runContainer(demo, pod, "one", { command: ["sleep", "1000"] });
  const two = await runContainer(demo, pod, "two", { command: ["sleep", "1000"] });
  const { layers, pid } = await infoOf(demo, one);
  const top = layers.at(-1) ?? "";
  const inLayer = join(agent.paths.root, "layers", top.slice("sha256:".length).slice(0, 32), "fs", notesPath);
  const upper = join(agent.paths.root, "containers", one.id, "upper");
  const copy = join(upper, notesPath);

  screen.say(`The file ${notesPath} is in layer 4. Container one's upper directory has nothing in it yet.`);
  const before = sha256(inLayer);
  screen.values([
    ["container one's /", `${rootType(pid)}, of ${layers.length} layers`, `/proc/${pid}/mountinfo`],
    ["in layer 4", before, `sha256sum ${inLayer}`],
  ]);
  screen.check("no copy in the upper directory", !existsSync(copy));

  screen.say("Container one appends a line.");
  await exec(demo, one, ["sh", "-c", `echo ${added} >> ${notesPath}`]);
  const inOne = await cat(demo, one);
  const inTwo = await cat(demo, two);
  const after = sha256(inLayer);
  screen.values([
    ["in layer 4", after, `sha256sum ${inLayer}`],
    ["the copy", existsSync(copy) ? sha256(copy) : "none", `sha256sum ${copy}`],
  ]);
  screen.check("the layer on disk is unchanged", after === before && readFileSync(inLayer, "utf8") === notes);
  screen.check(
    "the upper directory has the copy, with the new line",
    existsSync(copy) && readFileSync(copy, "utf8") === `${notes}${added}\n`,
  );
  screen.check("container one sees both lines", inOne === `${notes}${added}\n`);
  screen.check("container two sees the original", inTwo === notes);

  screen.say(
    "Container one deletes the file. The layer cannot be changed, so the upper directory gets a whiteout in its place: " +
      "a character device 0:0, which the overlay shows as nothing.",
  );
  await exec(demo, one, ["rm", notesPath]);
  const { exitCode } = await exec(demo, one, ["cat", notesPath]);
  const stat = lstatSync(copy);
  screen.values([
    [
      "in upper",
      stat.isCharacterDevice() ? `character device ${stat.rdev >> 8}:${stat.rdev & 0xff}` : "a file",
      `stat ${copy}`,
    ],
  ]);
  screen.check(
    "the file is gone for container one, by a whiteout",
    exitCode !== 0 && stat.isCharacterDevice() && stat.rdev === 0,
  );
  screen.check(
    "container two and the layer still have it",
    (await cat(demo, two)) === notes && sha256(inLayer) === before,
  );
  await removePods(demo, [pod]);
}

async function cat(demo: Demo, container: DemoContainer): Promise<string> {
  return (await exec(demo, container, ["cat", notesPath])).stdout;
}

/** The file system that is mounted on "/" of a process: the last such line counts. */
function rootType(pid: number): string {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, "utf8").trimEnd().split("\n");
  const line = lines.findLast((text) => text.split(" ")[4] === "/") ?? "";
  return / - (\S+)/.exec(line)?.[1] ?? "";
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
