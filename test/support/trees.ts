/** Trees of files, told completely. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Extended attributes, as GNU tar tells them: it is on every Debian. */
export function attributesOf(path: string): Map<string, string> {
  const options = ["--format=posix", "--xattrs", "--xattrs-include=*", "--no-recursion"];
  const archive = execFileSync("tar", [...options, "-cf", "-", "-C", dirname(path), basename(path)], {
    encoding: "latin1",
    maxBuffer: 64 * 1024 ** 2,
  });
  const records = archive.matchAll(/SCHILY\.xattr\.([^=]+)=([^\n]*)\n/g);
  return new Map(Array.from(records, ([, name = "", value = ""]) => [name, value]));
}

/** Everything that can be told about a tree, by path. */
export async function describeTree(root: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const visit = async (path: string): Promise<void> => {
    const full = join(root, path);
    const status = await lstat(full, { bigint: true });
    // how many links a directory has is the file system's affair
    const links = status.isDirectory() ? "-" : status.nlink;
    const parts = [status.mode, status.uid, status.gid, status.mtimeNs, links, status.rdev].map(String);
    if (status.isFile())
      parts.push(
        createHash("sha256")
          .update(await readFile(full))
          .digest("hex"),
      );
    if (status.isSymbolicLink()) parts.push(await readlink(full));
    found.set(path, parts.join(" "));
    if (status.isDirectory()) for (const name of await readdir(full)) await visit(join(path, name));
  };
  await visit(".");
  return found;
}
