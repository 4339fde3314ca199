// From a directory with a package's files to the package.
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { copy, filesBelow, run, write } from "./files.mjs";

/** Calls `fill` with an empty directory, and takes it away afterwards. */
export async function withStage(fill) {
  const scratch = mkdtempSync(join(tmpdir(), "berth-package-"));
  try {
    const root = join(scratch, "root");
    mkdirSync(root);
    chmodSync(root, 0o755);
    await fill(root);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** dpkg's own answer to which packages have the libraries that these programs are linked with, and from which versions on. */
export function sharedLibraries(programs) {
  const scratch = mkdtempSync(join(tmpdir(), "berth-shlibdeps-"));
  try {
    write(join(scratch, "debian", "control"), "Source: berth\n\nPackage: berth\nArchitecture: any\n");
    // what an addon has of Node's is not found, and warned of
    const answer = run("dpkg-shlibdeps", ["-O", ...programs.map((path) => `-e${path}`)], { cwd: scratch });
    return answer.trim().replace(/^shlibs:Depends=/, "");
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/**
 * Writes DEBIAN/ into the directory and packs it into output/NAME_VERSION_ARCHITECTURE.deb; says what it takes. What is
 * below etc/ is the administrator's from then on (conffiles).
 * @param scripts paths of maintainer scripts
 */
export function pack(root, { output, compression }, fields, scripts = []) {
  const files = filesBelow(root);
  const sizes = files.map((file) => Math.ceil(statSync(join(root, file)).size / 1024));
  const installedKib = sizes.reduce((sum, size) => sum + size, 0);
  const digest = (file) =>
    createHash("md5")
      .update(readFileSync(join(root, file)))
      .digest("hex");
  const conffiles = files.filter((file) => file.startsWith("etc/")).map((file) => `/${file}\n`);
  const { Description, ...others } = fields;
  const control = {
    ...others,
    Section: "admin",
    Priority: "optional",
    Maintainer: "Berth <berth@localhost>",
    "Installed-Size": installedKib,
    Description,
  };
  write(join(root, "DEBIAN/md5sums"), files.map((file) => `${digest(file)}  ${file}\n`).join(""));
  if (conffiles.length > 0) write(join(root, "DEBIAN/conffiles"), conffiles.join(""));
  for (const script of scripts) copy(script, join(root, "DEBIAN", script.split("/").at(-1)), 0o755);
  const lines = Object.entries(control).map(([name, value]) => `${name}: ${value}\n`);
  write(join(root, "DEBIAN/control"), lines.join(""));
  mkdirSync(output, { recursive: true });
  const target = join(output, `${fields.Package}_${fields.Version}_${fields.Architecture}.deb`);
  run("dpkg-deb", ["--root-owner-group", `-Z${compression}`, "--build", root, target]);
  const mib = (kib) => `${(kib / 1024).toFixed(1)} MiB`;
  process.stdout.write(`${target}: ${mib(statSync(target).size / 1024)}, installed ${mib(installedKib)}\n`);
}
