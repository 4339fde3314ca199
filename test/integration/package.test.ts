/**
 * The Debian package: made of the built tree, installed, upgraded, removed and purged by dpkg in a copy of this machine's
 * root (an overlay, in namespaces of its own), where it finds the packages that it depends on. With BERTH_DEBIAN_ROOT=DIR the
 * copy is of that directory, with this machine's Node as the package berth-node:
 *   debootstrap --variant=minbase --include=systemd,init-system-helpers,libnftables1,libisal2,libzstd1,libssl3 bookworm DIR
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startAgent } from "../support/agent.js";
import { linksOf, readPages } from "../support/documents.js";
import { fails, importBusybox, out, removePod, runContainer, runPod } from "../support/workload.js";

const run = promisify(execFile);
const repository = fileURLToPath(new URL("../../..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "berth-package-test-"));
const debs = join(scratch, "debs");
const cleanRoot = process.env["BERTH_DEBIAN_ROOT"];
// man-db's trigger would look at all of this machine's pages
const dpkg = "dpkg --force-unsafe-io --no-triggers";
let first: string;
let second: string;

after(() => rmSync(scratch, { recursive: true }));

/** A shell script in the copy, whose changes stay for the next one; answers standard output and error together. */
async function inCopy(script: string): Promise<string> {
  const [upper, work, root] = ["upper", "work", "root"].map((name) => join(scratch, name));
  const enter = [
    `mount -t overlay overlay -o lowerdir=${cleanRoot ?? "/"},upperdir=${upper},workdir=${work} ${root}`,
    `mount -t proc proc ${root}/proc && mount --rbind /dev ${root}/dev && mount --bind ${scratch} ${root}/mnt`,
    // no /run/systemd: no systemd is asked; what pods leave there stays between scripts
    `mount --bind ${scratch}/run ${root}/run`,
    `exec chroot ${root} /bin/sh -ec "$0" 2>&1`,
  ].join("\n");
  const namespaces = "--mount --pid --fork --kill-child --propagation private";
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
  try {
    const args = [...namespaces.split(" "), "/bin/sh", "-ec", enter, script];
    return (await run("/usr/bin/unshare", args, { env, timeout: 120_000 })).stdout;
  } catch (error) {
    throw new Error(`${script}\n${String((error as { stdout?: string }).stdout)}`, { cause: error });
  }
}

/** undefined: nothing */
function whatIsMissing(): string | undefined {
  for (const path of ["/usr/bin/dpkg-shlibdeps", "/usr/bin/strip", "/usr/bin/deb-systemd-helper", "/usr/bin/unshare"]) {
    if (!existsSync(path)) return `${path} is not installed`;
  }
  if (cleanRoot !== undefined) return undefined;
  const packages = existsSync("/var/lib/dpkg/status") ? readFileSync("/var/lib/dpkg/status", "utf8") : "";
  const node = /^Package: nodejs\n(?:.+\n)*?Version: (\d+)\./m.exec(packages);
  if (node === null || Number(node[1]) < 20) return "Node 20 is not installed by dpkg";
  return /^Package: berth\n/m.test(packages) ? "berth is installed here" : undefined;
}

describe("the package", { skip: whatIsMissing() ?? false }, () => {
  before(async () => {
    for (const name of ["upper", "work", "root", "run"]) mkdirSync(join(scratch, name));
    const build = join(repository, "deploy/deb/build.mjs");
    const withNode = cleanRoot === undefined ? [] : ["--with-node"];
    const { stdout } = await run(process.execPath, [build, "--output", debs, "--compression", "none", ...withNode]);
    first = /^(\S+): /.exec(stdout)?.[1] ?? "";
    const unpacked = join(scratch, "unpacked");
    await run("dpkg-deb", ["-R", first, unpacked]);
    const control = join(unpacked, "DEBIAN/control");
    writeFileSync(control, readFileSync(control, "utf8").replace(/^Version: .*$/m, "Version: 99.0"));
    const conffile = join(unpacked, "etc/berth/config.toml");
    writeFileSync(conffile, `${readFileSync(conffile, "utf8")}# of the new version\n`);
    second = join(debs, "second.deb");
    await run("dpkg-deb", ["--root-owner-group", "-Znone", "-b", unpacked, second]);
    rmSync(unpacked, { recursive: true });
  });

  test("depends on Node, and on the libraries that its programs are linked with", async () => {
    const { stdout } = await run("dpkg-deb", ["-f", first, "Depends"]);
    assert.match(stdout, /nodejs \(>= 20\.11\) \| berth-node/);
    for (const name of ["libc6", "libnftables1", "libisal2", "libzstd1", "libssl3", "libstdc\\+\\+6"]) {
      assert.match(stdout, new RegExp(`(^|, )${name} \\(>= `));
    }
  });

  test("its agent runs a pod, and its client of the API server starts, from the package's own files alone", async () => {
    const files = join(scratch, "files");
    await run("dpkg-deb", ["-x", first, files]);
    const program = join(files, "usr/lib/berth/dist/agent/cli/main.js");
    const cdi = join(scratch, "cdi");
    mkdirSync(cdi);
    const edits = "containerEdits:\n      env: [WORD=packaged]";
    writeFileSync(
      join(cdi, "d.yaml"),
      `cdiVersion: 0.5.0\nkind: berth.test/d\ndevices:\n  - name: one\n    ${edits}\n`,
    );
    const agent = await startAgent({ program, flags: { "cdi-dirs": cdi } });
    try {
      // what is loaded at its first use: the client of registries, the reader of YAML
      await fails(
        agent.client.call("PullImage", { image: { image: "127.0.0.1:1/x:1" } }),
        "UNAVAILABLE",
        /ECONNREFUSED/,
      );
      await importBusybox(agent);
      const pod = await runPod(agent);
      const id = await runContainer(agent, pod, { CDI_devices: [{ name: "berth.test/d=one" }] });
      assert.equal(await out(agent, id, "echo $WORD"), "packaged");
      const { stdout } = await run(process.execPath, [program, "ps", "--socket", agent.socket]);
      assert.match(stdout, new RegExp(id.slice(0, 12)));
      await removePod(agent, pod);
    } finally {
      await agent.stop();
    }
    const words = ["kube", "--kubeconfig", join(scratch, "no-such-file")];
    const failed: unknown = await run(process.execPath, [program, ...words]).catch((error: unknown) => error);
    assert.match(String((failed as { stderr?: string }).stderr), /no-such-file/);
  });

  test("has what runs, and neither tests nor what only builds", async () => {
    const { stdout } = await run("dpkg-deb", ["-c", first], { maxBuffer: 16 * 1024 * 1024 });
    for (const path of [
      "/usr/bin/berth",
      "/lib/systemd/system/berth.socket",
      "/usr/share/man/man1/berth.1.gz",
      "/usr/share/doc/berth/modules/undici/LICENSE",
    ]) {
      assert.ok(stdout.includes(` .${path}\n`), path);
    }
    assert.doesNotMatch(
      stdout,
      /\.test\.js|test-support|\/lib\/berth\/node_modules|\/(typescript|@biomejs|esbuild)\/|\.map$/m,
    );
    assert.match(stdout, /^-rwxr-xr-x root\/root .* \.\/usr\/lib\/berth\/build\/berth-monitor$/m);
  });

  test("its pages lead to what it has", async () => {
    const tree = join(scratch, "tree");
    await run("dpkg-deb", ["-x", first, tree]);
    const documents = join(tree, "usr/share/doc/berth");
    const links = readPages()
      .filter(({ path }) => existsSync(join(documents, path)))
      .flatMap(linksOf);
    // the sources are not in it
    const isSource = /^(?:agent|test)\//;
    const dead = links.filter(({ target }) => !isSource.test(target) && !existsSync(join(documents, target)));
    assert.deepEqual(dead, []);
    assert.ok(links.length > 80, `${links.length} links`);
    assert.notEqual(statSync(join(documents, "deploy/cluster-on-one-host/cluster")).mode & 0o111, 0);
  });

  test("installed, the command runs, its configuration is accepted, and the service is enabled", async () => {
    const output = await inCopy(`
      ${dpkg} -i /mnt/debs/*_*.deb
      berth config check
      berth doctor --json >/dev/null || test $? -lt 2
      berth version
      readlink /etc/systemd/system/multi-user.target.wants/berth.service
      test ! -e /etc/systemd/system/sockets.target.wants/berth.socket
      dpkg --verify berth`);
    assert.match(output, /config\.toml: nothing is wrong/);
    assert.match(output, /^berth \d/m);
    assert.match(output, /^\/lib\/systemd\/system\/berth\.service$/m);
  });

  test("an upgrade keeps the configuration that was changed, and a service that was disabled", async () => {
    const output = await inCopy(`
      echo 'log-level = "warn"' >>/etc/berth/config.toml
      systemctl --quiet disable berth.service
      mkdir -p /var/lib/berth/pods
      ${dpkg} --force-confold -i /mnt/debs/second.deb
      tail -n 1 /etc/berth/config.toml
      test ! -e /etc/systemd/system/multi-user.target.wants/berth.service
      test -d /var/lib/berth/pods && echo kept`);
    assert.match(output, /^log-level = "warn"\nkept$/m);
  });

  test("removed, it leaves the state and the configuration; purged, nothing, but not while a pod runs", async () => {
    const removed = await inCopy(`
      mkdir -p /run/berth/pods/a
      ${dpkg} -r berth
      test -d /var/lib/berth/pods && test -f /etc/berth/config.toml && test ! -e /usr/bin/berth && echo kept
      cp /bin/sh /mnt/berth-monitor
      /mnt/berth-monitor -c 'sleep 100; :' pod --directory /run/berth/pods/a &
      if ${dpkg} --purge berth; then echo purged; fi
      test -d /var/lib/berth/pods && echo kept again`);
    assert.match(removed, /1 pods are left on this node/);
    assert.match(
      removed,
      /^kept$[\s\S]*pods run here still \(their monitors are the processes \d+\)[\s\S]*^kept again$/m,
    );
    assert.doesNotMatch(removed, /^purged$/m);

    await inCopy(
      `${dpkg} --purge berth ${cleanRoot === undefined ? "" : "berth-node"}; test ! -e /var/lib/berth; test ! -e /run/berth; test ! -e /etc/berth`,
    );
    const left = readdirSync(join(scratch, "upper"), { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isCharacterDevice() && entry.name.includes("berth"))
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
    assert.deepEqual(left, []);
  });
});
