/** What the guest's disk holds: enough of a Debian for the tests, and the built repository at /berth. */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { makeProbe } from "../support/comparison/probe.js";
import type { Kernel } from "./kernel.js";
import { moduleOrder, nodeModules } from "./modules.js";
import { packageEntries } from "./package.js";

const run = promisify(execFile);

export const guestRepository = "/berth";
/** The policies that a guest with SELinux loads: the first at its start, the others by its tests. */
const guestPolicies = "/usr/share/selinux";

/** One file of the image: a copy of a host's file, a text, or a symbolic link. */
export type PayloadEntry = { path: string; executable?: boolean } & (
  | { source: string }
  | { text: string }
  | { link: string }
);

export interface Payload {
  /** directories besides those that the entries need, with their modes */
  directories: { path: string; mode: number }[];
  entries: PayloadEntry[];
}

/** Debian's own small programs, by package: tests may use what busybox's applets cannot do. */
const programPackages = [
  "bash",
  "bsdutils",
  "coreutils",
  "dash",
  "findutils",
  "grep",
  "gzip",
  "mount",
  "sed",
  "tar",
  "util-linux",
  "procps",
];
/** Programs that some tests need, taken when the host has them: such a test says itself what is missing. */
const optionalPrograms = [
  "apparmor_parser",
  "as",
  "btrfs",
  "cc",
  "crun",
  "curl",
  "docker-registry",
  "ip",
  "ld",
  "mkfs.btrfs",
  "mkfs.ext4",
  "mkfs.xfs",
  "nft",
  "runc",
  "skopeo",
];
/** For the systemd that a test starts: its programs and D-Bus's, with what they read. */
const systemdPackages = ["systemd", "dbus-bin", "dbus-daemon", "dbus-system-bus-common"];
const programFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/**
 * Lists the whole content of the image; nothing is copied here.
 * @param withPackage Berth's Debian package, too, which has to be made for it
 */
export async function payloadOf(
  repository: string,
  kernels: readonly Kernel[],
  { withPackage }: { withPackage: boolean },
): Promise<Payload> {
  const programs = await programPaths();
  const packaged = withPackage ? await packageEntries(repository) : [];
  const built = [...(await repositoryEntries(repository)), ...(await probeEntries(repository))];
  const compiler = await compilerFiles();
  const systemd = await systemdFiles(repository);
  const elf = await elfFiles([...built, ...compiler, ...systemd, ...packaged]);
  const binaries = [...programs.map((program) => program.source), ...elf];
  const entries: PayloadEntry[] = [
    ...["bin", "sbin", "lib", "lib64"].map((name) => ({ path: `/${name}`, link: `usr/${name}` })),
    { path: "/usr/bin/busybox", source: "/usr/bin/busybox", executable: true },
    ...(await busyboxLinks(new Set([...programs, ...packaged].map(({ path }) => basename(path))))),
    ...programs,
    ...(await libraries(binaries)).map((path) => ({ path: usrPath(path), source: path, executable: true })),
    ...(await Promise.all(kernels.map(moduleFiles))).flat(),
    { path: "/usr/sbin/init", source: join(repository, "test/vm/guest/init.sh"), executable: true },
    ...(await systemFiles()),
    ...(await selinuxFiles(repository)),
    ...compiler,
    ...systemd,
    ...packaged,
    ...built,
  ];
  const directories = ["/dev", "/proc", "/sys", "/run", "/var/lib", "/var/log", "/root", "/mnt", "/srv", "/opt"].map(
    (path) => ({ path, mode: 0o755 }),
  );
  for (const path of ["/tmp", "/var/tmp"]) directories.push({ path, mode: 0o1777 });
  return { directories, entries };
}

interface Program {
  path: string;
  source: string;
  executable: true;
}

async function programPaths(): Promise<Program[]> {
  const programs = new Map<string, Program>();
  const add = async (path: string): Promise<void> => {
    programs.set(path, { path, source: await realpath(path), executable: true });
  };
  const listed = await Promise.all(
    programPackages.map((name) => run("dpkg", ["-L", name]).catch(() => ({ stdout: "" }))),
  );
  const optional = optionalPrograms.flatMap((name) => programFolders.map((folder) => join(folder, name)));
  for (const path of [...listed.flatMap(({ stdout }) => stdout.split("\n")), ...optional]) {
    if (!/^(\/usr)?(\/local)?\/s?bin\/[^/]+$/.test(path) || !(await isFile(path))) continue;
    await add(usrPath(path));
  }
  await add(process.execPath);
  return [...programs.values()].map((program) =>
    program.path === process.execPath ? { ...program, path: "/usr/bin/node" } : program,
  );
}

/** The modules of a kernel that a node loads, and their order: /modules/RELEASE. */
async function moduleFiles({ release, modules }: Kernel): Promise<PayloadEntry[]> {
  const folder = `/modules/${release}`;
  const paths = await moduleOrder(modules, nodeModules);
  return [
    ...paths.map((path) => ({ path: join(folder, basename(path)), source: path })),
    { path: join(folder, "order"), text: paths.map((path) => `${join(folder, basename(path))}\n`).join("") },
  ];
}

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

async function busyboxLinks(taken: ReadonlySet<string>): Promise<PayloadEntry[]> {
  const { stdout } = await run("/usr/bin/busybox", ["--list-full"]);
  return stdout
    .split("\n")
    .filter((line) => line !== "" && !taken.has(basename(line)) && !["init", "busybox"].includes(basename(line)))
    .map((line) => ({
      path: `/usr/${line.includes("sbin/") ? "sbin" : "bin"}/${basename(line)}`,
      link: "/usr/bin/busybox",
    }));
}

/** What cc needs to make a static program (the attackers') or a library to preload of one C file. */
async function compilerFiles(): Promise<PayloadEntry[]> {
  const { stdout: own } = await run("cc", ["-print-libgcc-file-name"]);
  const directory = dirname(own.trim());
  const names = [
    "cc1",
    "collect2",
    "liblto_plugin.so",
    "lto-wrapper",
    "crtbeginS.o",
    "crtbeginT.o",
    "crtend.o",
    "crtendS.o",
    "libgcc.a",
    "libgcc_eh.a",
    "libgcc_s.so",
  ];
  const headers = (await filesBelow(join(directory, "include"))).map((name) => join("include", name));
  const { stdout: listed } = await run("dpkg", ["-L", "libc6-dev", "linux-libc-dev"]);
  const ofSystem = listed
    .split("\n")
    .filter((path) =>
      /^\/usr\/include\/|\/(crt1|crti|crtn)\.o$|\/lib(c|m|pthread|dl)\.a$|\/libc(\.so|_nonshared\.a)$/.test(path),
    );
  const paths = [...[...names, ...headers].map((name) => join(directory, name)), ...ofSystem];
  const files = await Promise.all(paths.map(async (path) => ((await isFile(path)) ? [path] : [])));
  return files.flat().map((path) => ({ path: usrPath(path), source: path, executable: true }));
}

async function systemdFiles(repository: string): Promise<PayloadEntry[]> {
  const { stdout } = await run("dpkg", ["-L", ...systemdPackages]).catch(() => ({ stdout: "" }));
  const wanted = /^(\/usr)?\/lib\/systemd\/systemd|^(\/usr)?\/bin\/|^\/usr\/share\/dbus-1\//;
  const paths = stdout.split("\n").filter((path) => wanted.test(path));
  const files = await Promise.all(paths.map(async (path) => ((await isFile(path)) ? [path] : [])));
  const units = join(repository, "test/vm/guest/systemd");
  return [
    ...files.flat().map((path) => ({ path: usrPath(path), source: path, executable: true })),
    ...(await readdir(units)).map((name) => ({ path: `/etc/systemd/system/${name}`, source: join(units, name) })),
  ];
}

/** What a bare system has in /etc, with no network but loopback. */
async function systemFiles(): Promise<PayloadEntry[]> {
  const entries: PayloadEntry[] = [
    {
      path: "/etc/passwd",
      text: [
        "root:x:0:0:root:/root:/bin/sh",
        "messagebus:x:100:100::/nonexistent:/bin/false",
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
      ].join("\n"),
    },
    { path: "/etc/group", text: "root:x:0:\ntty:x:5:\nmessagebus:x:100:\nnogroup:x:65534:\n" },
    { path: "/etc/hosts", text: "127.0.0.1 localhost berth-vm\n::1 localhost\n" },
    { path: "/etc/hostname", text: "berth-vm\n" },
    { path: "/etc/resolv.conf", text: "nameserver 127.0.0.1\n" },
    { path: "/etc/nsswitch.conf", text: "passwd: files\ngroup: files\nhosts: files\n" },
    { path: "/etc/protocols", text: "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n" },
    { path: "/etc/mtab", link: "/proc/self/mounts" },
  ];
  for (const path of ["/etc/os-release", "/etc/containers/policy.json"]) {
    if (await isFile(path)) entries.push({ path, source: path });
  }
  return entries;
}

/** /etc/selinux with the contexts of Debian's policy, and what the kernel can load (test/support/prepare.mjs made them). */
async function selinuxFiles(repository: string): Promise<PayloadEntry[]> {
  const built = join(repository, "build", "vm", "selinux");
  // the reduced set of tests does without, and building the policies takes minutes
  if (!existsSync(built)) return [];
  const copied = (from: string, to: string): PayloadEntry => ({ path: to, source: join(built, from) });
  return [
    ...(await filesBelow(join(built, "etc"))).map((path) => copied(join("etc", path), join("/etc/selinux", path))),
    ...["debian.policy", "containers.policy"].map((name) => copied(name, join(guestPolicies, name))),
  ];
}

/** The repository as built: compiled TypeScript, native products, the data that tests read, production packages. */
async function repositoryEntries(repository: string): Promise<PayloadEntry[]> {
  const entries: PayloadEntry[] = [];
  const add = (path: string): void => {
    entries.push({ path: join(guestRepository, path), source: join(repository, path), executable: true });
  };
  for (const file of ["package.json", "README.md", "SECURITY.md", "CHANGELOG.md"]) add(file);
  for (const folder of ["dist", "cri-proto", "test/fixtures", "test/old-monitor", "deploy", "docs"]) {
    for (const path of await filesBelow(join(repository, folder))) add(join(folder, path));
  }
  for (const file of await readdir(join(repository, "test/faults"))) {
    if (file.endsWith(".c")) add(join("test/faults", file));
  }
  for (const file of await readdir(join(repository, "build"), { withFileTypes: true })) {
    const path = join("build", file.name);
    if (file.isFile() && (await isElf(join(repository, path)))) add(path);
  }
  for (const folder of await productionPackages(repository)) {
    for (const path of await filesBelow(join(repository, folder), "node_modules")) {
      if (!/\.(ts|mts|cts|map|md|cc|h|gypi?)$/.test(path)) add(join(folder, path));
    }
  }
  return entries;
}

/** Programs of C++ that tests make of their own sources: the guest's compiler has C alone. */
async function probeEntries(repository: string): Promise<PayloadEntry[]> {
  const source = join(repository, "test/support/comparison/probe.cc");
  const target = join(repository, "build/vm/comparison-probe");
  const [written, made] = await Promise.all([source, target].map((path) => stat(path).catch(() => ({ mtimeMs: 0 }))));
  if ((written?.mtimeMs ?? 0) > (made?.mtimeMs ?? 0)) makeProbe(target);
  return [{ path: join(guestRepository, "build/vm/comparison-probe"), source: target, executable: true }];
}

async function productionPackages(repository: string): Promise<string[]> {
  const lock = JSON.parse(await readFile(join(repository, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean; optional?: boolean }>;
  };
  const folders = Object.entries(lock.packages).filter(([path, entry]) => path !== "" && entry.dev !== true);
  return folders.map(([path]) => path);
}

async function filesBelow(directory: string, except?: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
    if (entry.name === except || entry.name === ".tsbuildinfo") continue;
    if (entry.isDirectory()) {
      for (const name of await filesBelow(join(directory, entry.name), except)) names.push(join(entry.name, name));
    } else if (entry.isFile()) {
      names.push(entry.name);
    }
  }
  return names;
}

async function elfFiles(entries: readonly PayloadEntry[]): Promise<string[]> {
  const found: string[] = [];
  for (const entry of entries) {
    if (
      !("source" in entry) ||
      !/\.node$|\/build\/[^/]+$|\/(cc1|collect2|lto-wrapper|liblto_plugin.so)$|\/(systemd|bin)\/[^/.]+$/.test(
        entry.source,
      )
    )
      continue;
    if (await isElf(entry.source)) found.push(entry.source);
  }
  return found;
}

async function isElf(path: string): Promise<boolean> {
  const { size } = await stat(path);
  return size > 4 && (await readFile(path)).subarray(0, 4).equals(Buffer.from("\x7fELF", "latin1"));
}

/** The shared libraries (and the loader) of all given programs, as the dynamic loader finds them here. */
async function libraries(binaries: readonly string[]): Promise<string[]> {
  const paths = new Set<string>();
  // ldd fails when one of the files is a script or a static program, and goes on with the others
  const { stdout } = await run("ldd", [...binaries]).catch((error: { stdout?: string }) => ({
    stdout: error.stdout ?? "",
  }));
  if (stdout.includes("not found")) throw new Error(`a library is not here:\n${stdout}`);
  for (const match of stdout.matchAll(/(?:=> |^\s+)(\/\S+)/gm)) if (match[1] !== undefined) paths.add(match[1]);
  return [...paths];
}

/** Debian's /lib and /bin are links into /usr, in the image, too. */
function usrPath(path: string): string {
  return dirname(path).startsWith("/usr") ? path : `/usr${path}`;
}
