/** The guest's disk: an ext4 file system in a file, made by mke2fs from a staged tree, without a mount. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { Payload } from "./payload.js";

const run = promisify(execFile);

/** Sparse: only what is written takes place on the host. */
const diskSize = "4G";

/** Builds the image at `path` unless the one that is there was made from the same inputs. */
export async function buildImage(path: string, payload: Payload): Promise<{ path: string; built: boolean }> {
  const fingerprint = await fingerprintOf(payload);
  const stamp = `${path}.inputs`;
  const [before, exists] = await Promise.all([
    readFile(stamp, "utf8").catch(() => ""),
    stat(path).then(
      () => true,
      () => false,
    ),
  ]);
  if (exists && before === fingerprint) return { path, built: false };

  const scratch = await mkdtemp(`${path}.`);
  try {
    const tree = join(scratch, "tree");
    await stage(tree, payload);
    const image = join(scratch, "image");
    await run("mke2fs", [
      "-q",
      "-t",
      "ext4",
      "-d",
      tree,
      "-E",
      "root_owner=0:0",
      "-m",
      "0",
      "-I",
      "256",
      image,
      diskSize,
    ]);
    await rm(stamp, { force: true });
    await rename(image, path);
    await writeFile(stamp, fingerprint);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return { path, built: true };
}

/** Names, links and texts, and size and times of every copied file. */
async function fingerprintOf(payload: Payload): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(payload)).update(diskSize);
  for (const entry of payload.entries) {
    if (!("source" in entry)) continue;
    const { size, mtimeMs, ino } = await stat(entry.source);
    hash.update(`${size} ${mtimeMs} ${ino}\n`);
  }
  return hash.digest("hex");
}

async function stage(tree: string, payload: Payload): Promise<void> {
  await mkdir(tree);
  const made = new Set<string>();
  const parentOf = async (path: string): Promise<void> => {
    const parent = dirname(path);
    if (made.has(parent)) return;
    await mkdir(parent, { recursive: true });
    made.add(parent);
  };
  for (const { path, mode } of payload.directories) {
    await mkdir(join(tree, path), { recursive: true });
    await chmod(join(tree, path), mode);
  }
  // links to directories last: the entries below them name the real place
  for (const entry of [...payload.entries].sort((a, b) => Number("link" in a) - Number("link" in b))) {
    const target = join(tree, entry.path);
    await parentOf(target);
    if ("link" in entry) {
      await symlink(entry.link, target);
      continue;
    }
    if ("text" in entry) await writeFile(target, entry.text);
    else await copyFile(entry.source, target);
    if (entry.executable === true) {
      const mode = "source" in entry ? (await stat(entry.source)).mode & 0o777 : 0o755;
      await chmod(target, mode);
    }
  }
}
