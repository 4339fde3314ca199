// What the virtual machines of `npm run test:vm` need from Debian: kernels and SELinux policies, in build/vm. Nothing of it
// is installed here, and this machine's apt stays as it is. Used by prepare.mjs, which hands in its tools.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const kernelPackage = "linux-image-cloud-amd64";
const selinuxPolicy = "selinux-policy-default";
/** A source of packages beside this machine's own ones. */
const backports = `Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`;

/** Debian 12's own kernel, at build/vm/kernel. */
export function fetchKernel(tools) {
  const target = tools.at("build", "vm", "kernel");
  if (existsSync(join(target, "boot"))) return;
  tools.requireRoot(`Debian's kernel is missing (${kernelPackage})`);
  tools.updateLists();
  unpackKernel(tools, target, []);
}

/**
 * That of Debian's backports, at build/vm/kernel-backports: it can map the ids of tmpfs mounts, and knows no cgroup v1 for
 * memory. Without it the tests that need it are skipped.
 */
export function fetchNewerKernel(tools) {
  const target = tools.at("build", "vm", "kernel-backports");
  if (existsSync(join(target, "boot"))) return;
  tools.requireRoot(`the kernel of Debian's backports is missing (${kernelPackage})`);
  mkdirSync(tools.at("build", "vm"), { recursive: true });
  const apt = mkdtempSync(tools.at("build", "vm", "apt-"));
  try {
    const sources = join(apt, "backports.sources");
    writeFileSync(sources, backports);
    mkdirSync(join(apt, "lists", "partial"), { recursive: true });
    const settings = {
      "Dir::Etc::sourcelist": sources,
      "Dir::Etc::sourceparts": "-",
      "Dir::State::lists": join(apt, "lists"),
      "Dir::Cache::pkgcache": "",
      "Dir::Cache::srcpkgcache": "",
      "APT::Sandbox::User": "root",
    };
    const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    tools.aptGet([...options, "update"]);
    unpackKernel(tools, target, options);
  } catch (error) {
    if (!(error instanceof tools.Failure)) throw error;
    tools.say(`no kernel of Debian's backports, so tests that need one are skipped: ${error.message}`);
  } finally {
    rmSync(apt, { recursive: true, force: true });
  }
}

function unpackKernel({ Failure, at, say, run, aptGet }, target, options) {
  const depends = run("apt-cache", [...options, "depends", "--important", kernelPackage]);
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new Failure(`${kernelPackage} names no kernel: ${depends.trim()}`);
  say(`apt-get download ${name}, unpacked to ${target.slice(at().length + 1)}`);
  mkdirSync(at("build", "vm"), { recursive: true });
  const scratch = mkdtempSync(at("build", "vm", "kernel-"));
  try {
    // apt's own unprivileged user cannot write here
    aptGet([...options, "-o", "APT::Sandbox::User=root", "download", name], { cwd: scratch });
    const archive = readdirSync(scratch).find((file) => file.endsWith(".deb"));
    run("dpkg-deb", ["-x", archive, "tree"], { cwd: scratch });
    const modules = join(scratch, "tree", "lib", "modules");
    const packed = readdirSync(modules, { recursive: true }).filter((path) => path.endsWith(".ko.xz"));
    if (packed.length > 0) run("busybox", ["unxz", ...packed.map((path) => join(modules, path))]);
    renameSync(join(scratch, "tree"), target);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * Debian's SELinux policy, as its package would build it here, and the same with a domain for containers (berth_test.cil):
 * build/vm/selinux/etc is its /etc/selinux, debian.policy and containers.policy are what the kernel loads.
 */
export function buildSelinuxPolicies({ at, say, run, aptGet, updateLists }) {
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
