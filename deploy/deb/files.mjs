// What building a package needs of files and programs.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

export function run(program, args, more = {}) {
  try {
    return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], ...more });
  } catch (error) {
    if (error.code === "ENOENT")
      throw new Error(`${program} is missing: install Debian's packages dpkg-dev and binutils`);
    throw new Error(`${[program, ...args].join(" ")}:\n${error.stderr || error.message}`);
  }
}

/** The mode does not depend on the umask. */
export function makeDirectory(path) {
  const first = mkdirSync(path, { recursive: true });
  for (let made = path; first !== undefined && made.length >= first.length; made = dirname(made))
    chmodSync(made, 0o755);
}

export function write(path, content, mode = 0o644) {
  makeDirectory(dirname(path));
  writeFileSync(path, content);
  chmodSync(path, mode);
}

export function copy(from, to, mode = 0o644) {
  write(to, readFileSync(from), mode);
}

/** Regular files alone, by their paths below the directory, in order. */
export function filesBelow(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

/** Those that `wanted` takes (by their paths below `from`); what can be executed stays so. */
export function copyTree(from, to, wanted = () => true) {
  for (const name of filesBelow(from).filter(wanted)) {
    const path = join(from, name);
    copy(path, join(to, name), (statSync(path).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}
