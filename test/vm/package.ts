/** What the test of the Debian package wants in the guest: two versions of it, and what dpkg needs to install them. */
import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { PayloadEntry } from "./payload.js";

const run = promisify(execFile);

/** dpkg, and what the package's scripts call. */
const tools = ["dpkg", "init-system-helpers", "perl-base"];
const versions = ["1.0", "2.0"];

/** Makes both versions of the built tree in build/vm/package; in the guest they are /packages/berth_VERSION.deb. */
export async function packageEntries(repository: string): Promise<PayloadEntry[]> {
  const packages = await Promise.all(versions.map((version) => makePackage(repository, version)));
  return [
    ...packages.map((source, index) => ({ path: `/packages/berth_${versions[index]}.deb`, source })),
    ...(await installedEntries(packages[0] ?? "")),
    ...(await toolFiles()).map((source) => ({ path: source, source, executable: true })),
    { path: "/usr/sbin/ldconfig", source: "/sbin/ldconfig", executable: true },
  ];
}

async function makePackage(repository: string, version: string): Promise<string> {
  const options = ["--version", version, "--compression", "gzip", "--output", join(repository, "build/vm/package")];
  const { stdout } = await run(process.execPath, [join(repository, "deploy/deb/build.mjs"), ...options]);
  const path = /^(\S+): /m.exec(stdout)?.[1];
  if (path === undefined) throw new Error(`no package was named: ${stdout}`);
  return path;
}

/** dpkg's list of what is installed: what the package depends on, without the files. */
async function installedEntries(path: string): Promise<PayloadEntry[]> {
  const { stdout: depends } = await run("dpkg-deb", ["-f", path, "Depends"]);
  const names = depends.split(",").flatMap((one) => /^\s*([^\s|]+)/.exec(one)?.[1] ?? []);
  const fields = ["Package", "Status", "Maintainer", "Architecture", "Version", "Description"];
  const format = `${fields.map((name) => `${name}: \${${name}}\n`).join("")}\n`;
  const { stdout: status } = await run("dpkg-query", ["-W", "-f", format, ...names]);
  return [
    { path: "/var/lib/dpkg/status", text: status },
    ...names.map((name) => ({ path: `/var/lib/dpkg/info/${name}.list`, text: "" })),
  ];
}

async function toolFiles(): Promise<string[]> {
  const { stdout } = await run("dpkg", ["-L", ...tools]);
  const paths = new Set(stdout.split("\n").filter((path) => /^\/usr\/(bin|sbin|lib)\//.test(path)));
  const files = await Promise.all([...paths].map(async (path) => ((await stat(path)).isFile() ? [path] : [])));
  return files.flat();
}
