// npm run package: makes build/package/berth_VERSION_ARCHITECTURE.deb of the built tree, with Debian's own tools (packages
// dpkg-dev and binutils), without a network.
//   npm run package -- [--with-node] [--version VERSION] [--output DIR] [--compression xz|gzip|none]
// --with-node makes a second package, berth-node: this machine's Node, for hosts whose distribution has none that is new
// enough (Debian 12).
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { bundle, copyLicences } from "./bundle.mjs";
import { copy, copyTree, makeDirectory, run, write } from "./files.mjs";
import { pack, sharedLibraries, withStage } from "./pack.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const repository = join(here, "..", "..");
const at = (...parts) => join(repository, ...parts);
const { version } = JSON.parse(readFileSync(at("package.json"), "utf8"));
const { values: options } = parseArgs({
  options: {
    "with-node": { type: "boolean", default: false },
    version: { type: "string", default: version },
    compression: { type: "string", default: "xz" },
    output: { type: "string", default: at("build", "package") },
  },
});
const products = ["berth.node", "berth-monitor", "berth-unpack", "berth-archive"];
/** of what dpkg-shlibdeps looks at: berth-monitor is static */
const linked = ["berth.node", "berth-unpack", "berth-archive"];
const scripts = ["postinst", "prerm", "postrm"].map((name) => join(here, name));

function checkBuilt() {
  const needed = [...products.map((name) => join("build", name)), "dist/agent/cli/main.js"];
  const missing = needed.filter((path) => !existsSync(at(path)));
  if (missing.length > 0) throw new Error(`not there: ${missing.join(", ")}; run npm run build first`);
}

/** Where they stand in the repository, so that their links lead somewhere here, too. */
function copyDocuments(to) {
  copyLicences(repository, join(to, "modules"));
  for (const page of ["README.md", "SECURITY.md"]) copy(at(page), join(to, page));
  write(join(to, "changelog.gz"), gzipSync(readFileSync(at("CHANGELOG.md")), { level: 9 }));
  copyTree(at("docs"), join(to, "docs"));
  copyTree(at("cri-proto"), join(to, "cri-proto"), (name) => name.endsWith(".proto"));
  copyTree(at("deploy"), join(to, "deploy"), (name) => !/^(?:deb\/|berth\.(?:service|socket)$)/.test(name));
  write(
    join(to, "copyright"),
    [
      "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
      "Upstream-Name: berth\n",
      "Files: *\nCopyright: the authors of Berth\nLicense: Apache-2.0",
      " The licence's text is in /usr/share/common-licenses/Apache-2.0.\n",
      "Files: usr/lib/berth/dist/*\nCopyright: the authors of Berth and of the npm packages in modules/\nLicense: as-told-there",
      " Each one's package.json in modules/ names its licence, and its text lies beside it.\n",
    ].join("\n"),
  );
}

/** The configuration, completions and the manual, from the same tables as the program. */
async function writeGenerated(root) {
  const load = (path) => import(pathToFileURL(at("dist", "agent", path)).href);
  const [{ completionScript }, { commandManual, configManual }, { defaultConfigText }] = await Promise.all([
    load("cli/completions/script.js"),
    load("cli/manual.js"),
    load("configuration/describe.js"),
  ]);
  const packed = (text) => gzipSync(text, { level: 9 });
  write(join(root, "etc/berth/config.toml"), defaultConfigText());
  for (const name of ["config.d", "certs.d"]) makeDirectory(join(root, "etc/berth", name));
  write(join(root, "usr/share/bash-completion/completions/berth"), await completionScript("bash"));
  write(join(root, "usr/share/zsh/vendor-completions/_berth"), await completionScript("zsh"));
  write(join(root, "usr/share/fish/vendor_completions.d/berth.fish"), await completionScript("fish"));
  write(join(root, "usr/share/man/man1/berth.1.gz"), packed(await commandManual()));
  write(join(root, "usr/share/man/man5/berth-config.toml.5.gz"), packed(configManual()));
}

async function packBerth(architecture) {
  await withStage(async (root) => {
    const library = join(root, "usr/lib/berth");
    await bundle(repository, join(library, "dist"));
    write(join(library, "package.json"), '{ "name": "berth", "type": "module" }\n');
    for (const name of products) copy(at("build", name), join(library, "build", name), 0o755);
    run("strip", ["--strip-unneeded", join(library, "build", "berth.node")]);
    copy(join(here, "berth.sh"), join(root, "usr/bin/berth"), 0o755);
    for (const unit of ["berth.service", "berth.socket"]) {
      copy(at("deploy", unit), join(root, "lib/systemd/system", unit));
    }
    copyDocuments(join(root, "usr/share/doc/berth"));
    await writeGenerated(root);
    const libraries = sharedLibraries(linked.map((name) => join(library, "build", name)));
    const fields = {
      Package: "berth",
      Version: options.version,
      Architecture: architecture,
      Depends: `nodejs (>= 20.11) | berth-node, init-system-helpers, ${libraries}`,
      Recommends: "kmod",
      Suggests: "apparmor, containernetworking-plugins, iproute2, nftables",
      Description: [
        "Kubernetes container runtime and node agent",
        " Berth answers the kubelet's calls (the CRI): it turns pods into namespaces, cgroups and overlay mounts by itself,",
        " pulls images, serves exec, logs and port-forwards, and tells Prometheus what everything uses.",
      ].join("\n"),
    };
    pack(root, options, fields, scripts);
  });
}

/** The Node that runs this. */
async function packNode(architecture) {
  await withStage(async (root) => {
    const program = join(root, "usr/lib/berth/node");
    copy(process.execPath, program, 0o755);
    write(
      join(root, "usr/share/doc/berth-node/copyright"),
      `This is Node.js ${process.version}, as it was on the machine that made the package; its licence is at\nhttps://github.com/nodejs/node/blob/${process.version}/LICENSE\n`,
    );
    const fields = {
      Package: "berth-node",
      Version: process.version.slice(1),
      Architecture: architecture,
      Depends: sharedLibraries([program]),
      Description: [
        "Node.js for Berth alone",
        " For distributions whose own Node.js is older than 20.11. It is not in the PATH.",
      ].join("\n"),
    };
    pack(root, options, fields);
  });
}

try {
  checkBuilt();
  const architecture = run("dpkg", ["--print-architecture"]).trim();
  await packBerth(architecture);
  if (options["with-node"]) await packNode(architecture);
} catch (error) {
  process.stderr.write(`package: ${error.message}\n`);
  process.exitCode = 1;
}
