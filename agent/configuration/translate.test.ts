import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { loadConfig } from "../config.js";
import { type Translation, translateContainerd, translateCrio, translationText } from "./translate.js";

const scratch = mkdtempSync(join(tmpdir(), "berth-translate-"));
after(() => rmSync(scratch, { recursive: true }));

/** What Berth makes of it. */
function loaded(translation: Translation) {
  const path = join(scratch, "config.toml");
  writeFileSync(path, translationText(translation, [{ path: "/etc/theirs.toml" }]));
  return loadConfig({}, path);
}

const filesOf = (texts: string[]) => texts.map((text, index) => ({ text, path: `/etc/${index}.toml` }));
const fromContainerd = (...texts: string[]) => translateContainerd(filesOf(texts));
const fromCrio = (...texts: string[]) => translateCrio(filesOf(texts));

for (const [version, runtime, images] of [
  [2, "io.containerd.grpc.v1.cri", "io.containerd.grpc.v1.cri"],
  [3, "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"],
] as const) {
  test(`containerd's configuration of version ${version}`, () => {
    const translation = fromContainerd(
      `version = ${version}
root = "/var/lib/containerd"
[debug]
level = "trace"
[metrics]
address = "127.0.0.1:1338"
[plugins."${images}"]
snapshotter = "native"
max_concurrent_downloads = 3
disable_snapshot_annotations = false
${runtime === images ? "" : `[plugins."${runtime}"]`}
stream_server_address = "::1"
stream_server_port = "10010"
max_container_log_line_size = 200000
cdi_spec_dirs = ["/etc/cdi", "/run/cdi"]
[plugins."${images}".registry]
config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
[plugins."${runtime}".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/other"
[plugins."${runtime}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."${runtime}".containerd.runtimes.runc.options]
SystemdCgroup = true
BinaryName = "/usr/sbin/runc"
[plugins."${runtime}".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
[plugins."io.containerd.gc.v1.scheduler"]
pause_threshold = 0.02
`,
    );
    const config = loaded(translation);
    assert.equal(config.network, "cni");
    assert.equal(config.cniConf, "/etc/cni/other");
    assert.deepEqual(config.cniBin, ["/opt/cni/bin"]);
    assert.deepEqual(config.cdiDirectories, ["/etc/cdi", "/run/cdi"]);
    assert.equal(config.logLevel, "debug");
    assert.equal(config.logLineBytes, 131_072);
    assert.deepEqual(config.metrics, { host: "127.0.0.1", port: 1338 });
    assert.deepEqual(config.streams, { host: "::1", port: 10_010 });
    assert.deepEqual(config.registries, ["/etc/containerd/certs.d", "/etc/docker/certs.d"]);
    assert.equal(config.storageDriver, "copy");
    assert.equal(config.cgroupDriver, "systemd");
    assert.deepEqual(config.runtimes, [{ name: "runc", path: "/usr/sbin/runc", arguments: [], timeoutMs: 30_000 }]);
    assert.deepEqual(
      translation.left.map(({ key }) => key),
      [
        "root",
        "cri.max_concurrent_downloads",
        "cri.containerd.runtimes.kata.runtime_type",
        "plugins.io.containerd.gc.v1.scheduler.pause_threshold",
      ],
    );
  });
}

test("CRI-O's configuration", () => {
  const translation = fromCrio(
    `[crio]
storage_driver = "overlay"
[crio.api]
stream_port = "10010"
[crio.runtime]
default_ulimits = ["nofile=1024:-1", "core=0"]
cgroup_manager = "systemd"
log_level = "fatal"
hooks_dir = ["/usr/share/containers/oci/hooks.d"]
no_pivot = false
pids_limit = 1024
[crio.runtime.runtimes.crun]
runtime_path = "/usr/bin/crun"
[crio.image]
pause_image = "registry.k8s.io/pause:3.10"
pinned_images = ["docker.io/library/busybox", "quay.io/ops/*"]
[crio.network]
plugin_dirs = ["/opt/cni/bin/", "/usr/libexec/cni"]
[crio.metrics]
enable_metrics = true
metrics_port = 9537
`,
  );
  const config = loaded(translation);
  assert.equal(config.cgroupDriver, "systemd");
  assert.equal(config.hooksDirectory, "/usr/share/containers/oci/hooks.d");
  assert.equal(config.logLevel, "error");
  assert.deepEqual(config.streams, { host: "127.0.0.1", port: 10_010 });
  assert.deepEqual(config.metrics, { host: "127.0.0.1", port: 9537 });
  assert.deepEqual(config.cniBin, ["/opt/cni/bin", "/usr/libexec/cni"]);
  assert.equal(config.pinnedImages.length, 2);
  assert.deepEqual(config.rlimits, [
    { type: "RLIMIT_NOFILE", soft: 1024, hard: 2 ** 64 },
    { type: "RLIMIT_CORE", soft: 0, hard: 0 },
  ]);
  assert.deepEqual(config.runtimes, [{ name: "crun", path: "/usr/bin/crun", arguments: [], timeoutMs: 30_000 }]);
  assert.deepEqual(translation.left, [
    { key: "runtime.pids_limit", why: "" },
    { key: "image.pause_image", why: "Berth has no pause container" },
  ]);
});

test("what is no TOML is named with its line", () => {
  assert.throws(
    () => translateCrio([{ text: "[crio\n", path: "/etc/crio/crio.conf" }]),
    /^InvalidArgumentError: \/etc\/crio\/crio\.conf:1:/,
  );
});

test("drop-ins win over what was read before them, key by key", () => {
  const translation = fromCrio(
    '[crio.runtime]\ncgroup_manager = "cgroupfs"\nlog_level = "debug"\n[crio.network]\nplugin_dirs = ["/opt/cni/bin"]\n',
    '[crio.runtime]\ncgroup_manager = "systemd"\n[crio.network]\nplugin_dirs = ["/usr/lib/cni"]\n',
  );
  const config = loaded(translation);
  assert.deepEqual([config.cgroupDriver, config.logLevel, config.cniBin], ["systemd", "debug", ["/usr/lib/cni"]]);
});

test("what Berth would refuse is told instead, so that the result can be read", () => {
  const runtimes = (name: string, path: string) =>
    `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.${name}.options]\nBinaryName = "${path}"\n`;
  const translation = fromContainerd(
    `version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nmax_container_log_line_size = 100\n${[
      runtimes("nvidia", "/usr/bin/nvidia-container-runtime"),
      runtimes("nvidia_cdi", "/usr/bin/nvidia-container-runtime.cdi"),
      runtimes("crun", "crun"),
    ].join("")}`,
  );
  const config = loaded(translation);
  assert.equal(config.logLineBytes, 256);
  assert.deepEqual(
    config.runtimes.map(({ name }) => name),
    ["nvidia"],
  );
  assert.deepEqual(
    translation.left.map(({ why }) => why),
    ["no RuntimeClass can name it", "Berth looks for no program in the PATH: name its whole path"],
  );
});

test("the other runtime's file is not taken", () => {
  assert.throws(() => fromContainerd("[crio]\n"), /\/etc\/0\.toml: this is CRI-O's/);
  assert.throws(() => fromCrio("version = 2\n[plugins]\n"), /"version" is none of CRI-O's/);
});
