// Makes a fresh Debian 12 with Node 20 ready for a purpose: Debian packages, npm packages, the build. What is there
// already is left alone and takes no time. Runs before anything is installed, so it needs nothing but Node.
//   node test/support/prepare.mjs [build|test|demo|bench|vm] [--with-containerd]
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const at = (...parts) => join(repository, ...parts);

// libc's own headers come with g++
const toBuild = [
  "g++",
  "cmake",
  "make",
  "libseccomp-dev",
  "libnftables-dev",
  "libisal-dev",
  "libzstd-dev",
  "libssl-dev",
];
const toRun = ["busybox-static", "docker-registry"];
const packagesFor = {
  build: toBuild,
  // the OCI runtimes that a RuntimeClass can name, CNI plugins, readers of exported images, what other programs of a
  // node do to its network, makers of file systems, systemd for its cgroup driver, Prometheus, and certificates
  test: [
    ...[...toBuild, ...toRun, "runc", "crun", "containernetworking-plugins", "skopeo", "umoci"],
    ...["iproute2", "nftables", "e2fsprogs", "xfsprogs", "btrfs-progs", "systemd", "dbus", "prometheus", "openssl"],
  ],
  demo: [...toBuild, ...toRun],
  // the network is measured beside what is made by hand, and CNI beside its plugins
  bench: [...toBuild, ...toRun, "containernetworking-plugins", "iproute2", "nftables"],
  vm: [
    ...[...toBuild, ...toRun, "qemu-system-x86", "e2fsprogs", "xfsprogs", "btrfs-progs", "iproute2", "nftables"],
    // what tests use inside, and what makes a SELinux policy; none of them does anything by being installed
    ...["apparmor", "runc", "crun", "policycoreutils", "systemd", "dbus"],
  ],
};
const toCompare = ["containerd", "runc", "containernetworking-plugins"];
// Debian starts these by itself when they are installed; here they are programs that tests start on private paths
const services = ["docker-registry", "containerd", "dbus", "prometheus", "prometheus-node-exporter"];
const vmKernel = "linux-image-cloud-amd64";
const selinuxPolicy = "selinux-policy-default";

const sources = ["agent", "sandbox", "native", "metrics", "cri-proto", "test"];
const buildInputs = ["package.json", "package-lock.json", "tsconfig.json"];
const products = [
  "build/berth.node",
  "build/berth-monitor",
  "build/berth-unpack",
  "build/berth-archive",
  "dist/agent/cli/main.js",
];

class Failure extends Error {}

let didNothing = true;
function say(line) {
  didNothing = false;
  process.stdout.write(`prepare: ${line}\n`);
}

function run(program, args, options = {}) {
  const result = spawnSync(program, args, {
    cwd: repository,
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
    ...options,
    env: { ...process.env, ...options.env },
  });
  if (result.error !== undefined) throw new Failure(`${program} cannot be started: ${result.error.message}`);
  if (result.status === 0) return result.stdout;
  const output = `${result.stdout}${result.stderr}`.trimEnd().split("\n").slice(-60).join("\n");
  throw new Failure(
    `"${[program, ...args].join(" ")}" failed (${result.signal ?? `exit ${result.status}`}):\n${output}`,
  );
}

function missingPackages(wanted) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own notation
  const format = ["-W", "-f", "${Package} ${db:Status-Status}\n"];
  const { stdout, error } = spawnSync("dpkg-query", [...format, ...wanted], { encoding: "utf8" });
  if (error !== undefined) throw new Failure("dpkg-query cannot be started: this prepares Debian 12 machines only");
  const installed = new Set(
    stdout
      .split("\n")
      .filter((line) => line.endsWith(" installed"))
      .map((line) => line.split(" ")[0]),
  );
  return wanted.filter((name) => !installed.has(name));
}

/** Waits for another apt: Debian's daily one, or that of a second clone which is prepared at the same time. */
function aptGet(args, options = {}) {
  const apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=600", ...args];
  for (let tries = 0; ; tries++) {
    try {
      return run("flock", ["/var/lib/apt", ...apt], { env: { DEBIAN_FRONTEND: "noninteractive" }, ...options });
    } catch (error) {
      // apt's own time-out is not for the lock of the lists
      if (tries === 60 || !error.message.includes("/var/lib/apt/lists/lock")) throw error;
      spawnSync("sleep", ["5"]);
    }
  }
}

let listsAreFresh = false;
function updateLists() {
  if (listsAreFresh) return;
  say("apt-get update");
  aptGet(["update"]);
  listsAreFresh = true;
}

function requireRoot(need) {
  if (process.getuid() !== 0) throw new Failure(`${need}: that needs root; run the command again as root`);
}

function installPackages(wanted) {
  const missing = missingPackages(wanted);
  if (missing.length === 0) return;
  requireRoot(`Debian packages are missing (${missing.join(" ")})`);
  updateLists();
  say(`apt-get install ${missing.join(" ")}`);
  withoutServiceStarts(missing, () => aptGet(["-y", "--no-install-recommends", "install", ...missing]));
}

function withoutServiceStarts(missing, install) {
  const policy = "/usr/sbin/policy-rc.d";
  const ours = missing.some((name) => services.includes(name)) && !existsSync(policy);
  if (ours) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    install();
  } finally {
    if (ours) rmSync(policy, { force: true });
  }
  if (!existsSync("/bin/systemctl")) return;
  for (const name of missing.filter((name) => services.includes(name))) run("systemctl", ["disable", "--quiet", name]);
}

/** Unpacks Debian's kernel to build/vm/kernel; it is not installed on this machine. */
function fetchKernel() {
  const target = at("build", "vm", "kernel");
  if (existsSync(join(target, "boot"))) return;
  requireRoot(`Debian's kernel is missing (${vmKernel})`);
  updateLists();
  const depends = run("apt-cache", ["depends", "--important", vmKernel]);
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new Failure(`${vmKernel} names no kernel: ${depends.trim()}`);
  say(`apt-get download ${name}, unpacked to build/vm/kernel`);
  mkdirSync(at("build", "vm"), { recursive: true });
  const scratch = mkdtempSync(at("build", "vm", "kernel-"));
  try {
    // apt's own unprivileged user cannot write here
    aptGet(["-o", "APT::Sandbox::User=root", "download", name], { cwd: scratch });
    const archive = readdirSync(scratch).find((file) => file.endsWith(".deb"));
    run("dpkg-deb", ["-x", archive, "tree"], { cwd: scratch });
    renameSync(join(scratch, "tree"), target);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * Debian's SELinux policy, as its package would build it here, and the same with a domain for containers (berth_test.cil):
 * build/vm/selinux/etc is its /etc/selinux, debian.policy and containers.policy are what the kernel loads.
 */
function buildSelinuxPolicies() {
  const target = at("build", "vm", "selinux");
  const domain = at("test", "vm", "selinux", "berth_test.cil");
  const stamp = join(target, ".domain");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === readFileSync(domain, "utf8")) return;
  say(`apt-get download ${selinuxPolicy}; policies are built in build/vm/selinux (minutes on a busy machine)`);
  updateLists();
  mkdirSync(at("build", "vm"), { recursive: true });
  const scratch = mkdtempSync(at("build", "vm", "selinux-"));
  try {
    aptGet(["-o", "APT::Sandbox::User=root", "download", selinuxPolicy], { cwd: scratch });
    const archive = readdirSync(scratch).find((file) => file.endsWith(".deb"));
    run("dpkg-deb", ["-x", archive, "package"], { cwd: scratch });
    const root = join(scratch, "root");
    mkdirSync(join(root, "var/lib/selinux/default"), { recursive: true });
    mkdirSync(join(root, "etc"), { recursive: true });
    renameSync(join(scratch, "package/etc/selinux"), join(root, "etc/selinux"));
    writeFileSync(join(root, "etc/selinux/config"), "SELINUX=permissive\nSELINUXTYPE=default\n");
    writeFileSync(join(root, "etc/selinux/semanage.conf"), "module-store = direct\nexpand-check = 0\n");
    const modules = join(scratch, "package/usr/share/selinux/default");
    const names = readFileSync(join(modules, ".modules"), "utf8").split(/\s+/).filter(Boolean);
    const semodule = (...args) => run("semodule", ["-p", root, "-s", "default", "-n", ...args]);
    const policies = join(root, "etc/selinux/default/policy");
    const take = (name) => {
      const [built] = readdirSync(policies);
      writeFileSync(join(scratch, name), readFileSync(join(policies, built)));
    };
    semodule("-X", "100", ...names.flatMap((name) => ["-i", join(modules, `${name}.pp.bz2`)]));
    take("debian.policy");
    semodule("-X", "400", "-i", domain);
    take("containers.policy");
    rmSync(policies, { recursive: true });
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target);
    renameSync(join(root, "etc/selinux"), join(target, "etc"));
    for (const name of ["debian.policy", "containers.policy"]) renameSync(join(scratch, name), join(target, name));
    writeFileSync(stamp, readFileSync(domain));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function installModules() {
  const lock = readFileSync(at("package-lock.json"));
  const hash = createHash("sha256").update(lock).digest("hex");
  const stamp = at("node_modules", ".berth-lock");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return;
  // npm's own record of what it installed: somebody ran npm ci or npm install by hand
  const record = at("node_modules", ".package-lock.json");
  if (!existsSync(record) || statSync(record).mtimeMs < statSync(at("package-lock.json")).mtimeMs) {
    say("npm ci");
    run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
  }
  writeFileSync(stamp, hash);
}

function filesBelow(directory) {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return entry.name === "generated" ? [] : filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

function sourceHash() {
  const hash = createHash("sha256");
  const files = [
    ...sources
      .map((name) => at(name))
      .filter(existsSync)
      .flatMap(filesBelow),
    ...buildInputs.map((name) => at(name)),
  ];
  for (const path of files.sort()) {
    hash.update(path.slice(repository.length)).update("\0").update(readFileSync(path)).update("\0");
  }
  return hash.digest("hex");
}

function build() {
  const hash = sourceHash();
  const stamp = at("build", ".berth-sources");
  const complete = products.every((path) => existsSync(at(path)));
  if (complete && existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return;
  say("npm run build");
  run("npm", ["run", "--silent", "build"]);
  writeFileSync(stamp, hash);
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 11))
    throw new Failure(`Node ${process.versions.node} is too old: 20.11 is needed`);
}

function prepare(purpose, options) {
  const packages = packagesFor[purpose];
  if (packages === undefined) {
    throw new Failure(`"${purpose}" is no purpose: ${Object.keys(packagesFor).join(", ")} are`);
  }
  checkNode();
  installPackages([...packages, ...(options.includes("--with-containerd") ? toCompare : [])]);
  if (purpose === "vm") {
    fetchKernel();
    buildSelinuxPolicies();
  }
  installModules();
  build();
}

try {
  const [purpose = "build", ...options] = process.argv.slice(2);
  prepare(purpose, options);
  if (didNothing) say("nothing to install or build");
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`prepare: ${error.message}\n`);
  process.exitCode = 1;
}
