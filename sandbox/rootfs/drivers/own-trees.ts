/** Trees of a driver's own, beside the layers: `<root>/empty` and `<root>/mount-points`. */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { filesOf } from "./driver.js";

/**
 * Two empty directories: the files of an image without layers, and what can be below any image that has to be an overlay,
 * which wants two.
 * @param root the agent's state directory
 */
export async function makeEmptyLayer(root: string): Promise<{ emptyLayer: string; below: string }> {
  const home = join(root, "empty");
  // nobody else gets in, as with every layer, whatever the mode of a root directory that was there before
  await mkdir(home, { recursive: true, mode: 0o700 });
  const [emptyLayer, below] = [filesOf(home), join(home, "below")];
  for (const directory of [emptyLayer, below]) await mkdir(directory, { recursive: true, mode: 0o755 });
  return { emptyLayer, below };
}

/** What is mounted over in every container's root: directories and empty files. @param root the agent's state directory */
export async function makeMountPoints(root: string): Promise<string> {
  const home = join(root, "mount-points");
  const directory = filesOf(home);
  await mkdir(home, { recursive: true, mode: 0o700 });
  for (const name of ["", "dev", "etc", "proc", "sys"]) {
    await mkdir(join(directory, name), { recursive: true });
    await chmod(join(directory, name), 0o755);
  }
  for (const name of ["hostname", "hosts", "resolv.conf"]) {
    // one that is there is below the roots of containers that run: it is left as it is
    await writeFile(join(directory, "etc", name), "", { flag: "a" });
    await chmod(join(directory, "etc", name), 0o644);
  }
  return directory;
}
