// Makes a fresh Debian 12 with Node 20 ready for a purpose: Debian packages, npm packages, the build. What is there
// already is left alone and takes no time. Runs before anything is installed, so it needs nothing but Node.
//   node test/support/prepare.mjs [build|test|demo|bench|vm|vm-reduced] [--with-containerd]
// Ends with 3 when something cannot be installed, with 1 when it is there but does not build.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSelinuxPolicies, fetchKernel, fetchNewerKernel } from "./prepare-vm.mjs";

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
  // node do to its network, makers of file systems, systemd for its cgroup driver, Prometheus, certificates, packages,
  // shells whose completions are tried, a clock that can be set
  test: [
    ...[...toBuild, ...toRun, "runc", "crun", "containernetworking-plugins", "skopeo", "umoci"],
    ...[
      "iproute2",
      "nftables",
      "e2fsprogs",
      "xfsprogs",
      "btrfs-progs",
      "systemd",
      "dbus",
      "prometheus",
      "openssl",
      "dpkg-dev",
      "zsh",
      "fish",
      "libfaketime",
    ],
  ],
  demo: [...toBuild, ...toRun],
  // the network is measured beside what is made by hand, and CNI beside its plugins
  bench: [...toBuild, ...toRun, "containernetworking-plugins", "iproute2", "nftables", "socat", "util-linux"],
  vm: [
    ...[...toBuild, ...toRun, "qemu-system-x86", "e2fsprogs", "xfsprogs", "btrfs-progs", "iproute2", "nftables"],
    // what tests use inside, and what makes a SELinux policy; none of them does anything by being installed
    ...["apparmor", "runc", "crun", "policycoreutils", "systemd", "dbus"],
  ],
  "vm-reduced": [...toBuild, ...toRun, "qemu-system-x86", "e2fsprogs", "iproute2", "nftables", "systemd", "dbus"],
};
const toCompare = ["containerd", "runc", "containernetworking-plugins"];
// Debian starts these by itself when they are installed; here they are programs that tests start on private paths
const services = ["docker-registry", "containerd", "dbus", "prometheus", "prometheus-node-exporter"];

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
/** What Debian's archive was asked for is not to be had. */
class Unavailable extends Failure {}

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
      if (tries === 60 || !error.message.includes("/var/lib/apt/lists/lock")) throw new Unavailable(error.message);
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
  if (process.getuid() !== 0) throw new Unavailable(`${need}: that needs root; run the command again as root`);
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
  const tools = { Failure, at, say, run, aptGet, updateLists, requireRoot };
  if (purpose.startsWith("vm")) fetchKernel(tools);
  if (purpose === "vm") {
    fetchNewerKernel(tools);
    buildSelinuxPolicies(tools);
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
  process.exitCode = error instanceof Unavailable ? 3 : 1;
}
