import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { loadConfig, type WrittenSettings } from "./config.js";
import { settings } from "./settings.js";

const scratch = mkdtempSync(join(tmpdir(), "berth-config-"));
after(() => rmSync(scratch, { recursive: true }));

function fileWith(text: string): string {
  const path = join(scratch, "config.toml");
  writeFileSync(path, text);
  return path;
}

const empty = () => fileWith("");

test("defaults", () => {
  const config = loadConfig({}, empty());
  assert.deepEqual(config, {
    listen: "/run/berth/berth.sock",
    kubeSocket: null,
    run: "/run/berth",
    root: "/var/lib/berth",
    metrics: { host: "127.0.0.1", port: 9464 },
    metricsWebConfig: null,
    metricsPodLabels: [],
    streams: { host: "127.0.0.1", port: 0 },
    streamsTls: null,
    registries: ["/etc/berth/certs.d"],
    cdiDirectories: ["/etc/cdi", "/var/run/cdi"],
    hooksDirectory: null,
    specHooks: [],
    network: "auto",
    cniConf: "/etc/cni/net.d",
    cniBin: ["/opt/cni/bin", "/usr/lib/cni"],
    cniCache: "/var/lib/cni",
    bridge: "berth0",
    subnets: ["10.88.0.0/16"],
    cgroupDriver: "cgroupfs",
    cgroupRoot: "/berth",
    netnsDir: "/run/netns",
    storageDriver: "overlay",
    thinPool: { device: undefined, sizeBytes: 100 * 1024 ** 3, deviceBytes: 10 * 1024 ** 3 },
    writableLimitBytes: undefined,
    pinnedImages: [],
    logLineBytes: 16_384,
    logRate: 0,
    logLevel: "info",
    logAreas: {},
    traces: null,
    rlimits: [],
    runtimes: [],
    blockio: null,
    rdt: null,
  });
  assert.ok(Object.isFrozen(config));
});

test("says in its own words, and once, what is wrong with a setting's value", () => {
  for (const name of Object.keys(settings)) {
    for (const value of ["true", "[1]", "-1", '"x y"', '""']) {
      assert.doesNotMatch(refusal(`${name} = ${value}`), /Invalid type|Expected|undefined|\n/);
    }
  }
  assert.match(refusal('spec-hooks = "site.mjs"'), /spec-hooks "site\.mjs" is not an absolute path$/);
  assert.match(refusal('hooks-dir = "hooks"'), /hooks-dir "hooks" is not an absolute path, and not "off"$/);
  assert.match(refusal("log-level = debug"), /:1:13: .*texts are in quotes: name = "value"\)$/);
  assert.match(refusal("run = 5"), /run 5 is not a text in quotes$/);
  assert.match(refusal('log-rate = ""'), /log-rate "" is not a number from 0/);
});

function refusal(text: string): string {
  try {
    loadConfig({}, fileWith(text));
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

test("the socket follows --run; flags win over the file", () => {
  const file = fileWith('run = "/run/other"\nbridge = "br9"\nsubnet = "10.9.0.0/24,fd00::/64"\nmetrics = "off"\n');
  const config = loadConfig({ bridge: "br10", root: "/x/" }, file);
  assert.equal(config.listen, "/run/other/berth.sock");
  assert.equal(config.root, "/x");
  assert.equal(config.bridge, "br10");
  assert.deepEqual(config.subnets, ["10.9.0.0/24", "fd00::/64"]);
  assert.equal(config.metrics, null);
});

test("pods without a parent are in a slice with systemd", () => {
  assert.equal(loadConfig({ "cgroup-driver": "systemd" }, empty()).cgroupRoot, "/berth.slice");
});

test("a socket for metrics", () => {
  assert.deepEqual(loadConfig({ metrics: "unix:///run/berth/m.sock" }, empty()).metrics, { path: "/run/berth/m.sock" });
});

test("labels of pods for metrics, and what they are called there", () => {
  const { metricsPodLabels } = loadConfig({ "metrics-pod-labels": "app.kubernetes.io/name, team=owner" }, empty());
  assert.deepEqual(metricsPodLabels, [
    { key: "app.kubernetes.io/name", name: "label_app_kubernetes_io_name" },
    { key: "team", name: "owner" },
  ]);
});

test("an IPv6 address for metrics", () => {
  assert.deepEqual(loadConfig({ metrics: "[::1]:0" }, empty()).metrics, { host: "::1", port: 0 });
});

test("a file that was asked for must be there", () => {
  assert.throws(() => loadConfig({}, join(scratch, "none.toml")), /cannot be read.*none\.toml/);
});

test("syntax errors have a line and a column", () => {
  assert.throws(() => loadConfig({}, fileWith("run = 'a'\nroot = = 1\n")), /config\.toml:2:\d+: /);
});

test("an unknown setting and a wrong type are named", () => {
  assert.throws(() => loadConfig({}, fileWith("colour = 'red'\n")), /there is no setting "colour"/);
  assert.throws(() => loadConfig({}, fileWith("bridge = 5\n")), /config\.toml:1: bridge 5/);
});

const wrong: [WrittenSettings, RegExp][] = [
  [{ listen: "/run/x.sock" }, /^--listen "\/run\/x.sock" is not unix/],
  [{ listen: `unix:///${"x".repeat(107)}` }, /is longer than 107 bytes/],
  [{ run: "relative" }, /^--run "relative" is not an absolute path/],
  [{ metrics: "9464" }, /^--metrics "9464" is neither/],
  [{ metrics: "localhost:70000" }, /is neither/],
  [{ metrics: `unix:///${"x".repeat(120)}` }, /is neither/],
  [
    { "metrics-pod-labels": "team=pod" },
    /^--metrics-pod-labels "team=pod" has a mistake: "pod" is a label that series/,
  ],
  [{ "metrics-pod-labels": "a,b=label_a" }, /two labels would be called "label_a"/],
  [{ "metrics-pod-labels": "a=b=c" }, /"a=b=c" is no pod label, nor LABEL=NAME/],
  [{ "metrics-pod-labels": "a=7" }, /"7" is no name for a label/],
  [{ "metrics-pod-labels": Array.from({ length: 17 }, (_, n) => `l${n}`).join() }, /more than 16 labels/],
  [{ subnet: "10.0.0.0" }, /is not a CIDR/],
  [{ subnet: "10.0.0.0/16,10.1.0.0/16" }, /two CIDRs of a family/],
  [{ bridge: "a-name-that-is-too-long" }, /no name for a network interface/],
  [{ "cgroup-root": "/" }, /not a path below/],
  [{ "cgroup-root": "/sys/fs/cgroup/pods" }, /^--cgroup-root: "\/sys\/fs\/cgroup\/pods" is a path of the host's files/],
  [{ "cgroup-root": "/pods.slice" }, /^--cgroup-root: .* is a systemd slice/],
  [{ "cgroup-driver": "systemd", "cgroup-root": "/pods" }, /^--cgroup-root: .* is no systemd slice/],
  [{ traces: "localhost:4318" }, /^--traces "localhost:4318" is neither http/],
  [{ network: "calico" }, /is not auto, builtin, cni or none/],
  [{ "cgroup-driver": "docker" }, /is not cgroupfs or systemd/],
];
for (const [flags, message] of wrong) {
  test(`refused: ${JSON.stringify(flags)}`.slice(0, 80), () => {
    assert.throws(() => loadConfig(flags, empty()), { message });
  });
}

test("limits of programs: soft and hard, one for both, unlimited", () => {
  const { rlimits } = loadConfig({}, fileWith('[rlimits]\nnofile = "1024:4096"\ncore = "0"\nas = "1:unlimited"\n'));
  assert.deepEqual(rlimits, [
    { type: "RLIMIT_NOFILE", soft: 1024, hard: 4096 },
    { type: "RLIMIT_CORE", soft: 0, hard: 0 },
    { type: "RLIMIT_AS", soft: 1, hard: 2 ** 64 },
  ]);
});

for (const [line, sentence] of [
  ['nofiles = "1"', /config\.toml:2: rlimits\.nofiles is no limit/],
  ['nofile = "a"', /rlimits\.nofile "a" is not SOFT:HARD/],
  ['nofile = "1:2:3"', /is not SOFT:HARD/],
  ['nofile = "1:"', /is not SOFT:HARD/],
  ['nofile = "2:1"', /soft limit above the hard one/],
] as const) {
  test(`the limit ${line} is refused`, () => {
    assert.throws(() => loadConfig({}, fileWith(`[rlimits]\n${line}\n`)), sentence);
  });
}

test("OCI runtimes: their path, what they are started with, how long a command may take", () => {
  const text =
    '[runtimes.runc]\npath = "/usr/sbin/runc"\n[runtimes.gvisor]\npath = "/x/runsc"\narguments = ["--platform=systrap"]\ntimeout = 5\n';
  assert.deepEqual(loadConfig({}, fileWith(text)).runtimes, [
    { name: "runc", path: "/usr/sbin/runc", arguments: [], timeoutMs: 30_000 },
    { name: "gvisor", path: "/x/runsc", arguments: ["--platform=systrap"], timeoutMs: 5_000 },
  ]);
});

for (const [text, sentence] of [
  ["runtimes = 5", /config\.toml:1: runtimes is not a table/],
  ["[runtimes.runc]", /runtimes\.runc\.path is missing/],
  ["[runtimes]\nrunc = 'x'", /runtimes\.runc is not a table/],
  ['[runtimes.runc]\npath = "runc"', /runtimes\.runc\.path "runc" is not an absolute path/],
  ['[runtimes.runc]\npath = "/runc"\ncolour = 1', /runtimes\.runc: there is no setting "colour"/],
  ['[runtimes.runc]\npath = "/runc"\ntimeout = 0', /runtimes\.runc\.timeout 0 is less than a second/],
  ['[runtimes.runc]\npath = "/runc"\narguments = [1]', /runtimes\.runc\.arguments\.0 1 is not a text/],
  ['[runtimes.berth]\npath = "/runc"', /"berth" is Berth's own launcher/],
  ['[runtimes."a b"]\npath = "/runc"', /cannot be the name/],
] as const) {
  test(`the runtime ${JSON.stringify(text)} is refused`, () => {
    assert.throws(() => loadConfig({}, fileWith(`${text}\n`)), sentence);
  });
}

test("block-IO and RDT classes; without their tables there are none", () => {
  const text = `[[blockio.low]]
weight = 80
[[blockio.low]]
devices = ["/dev/sd[a-z]", "/dev/nvme*"]
throttle-read-bps = "60M"
throttle-write-bps = "1Gi"
throttle-read-iops = 500
throttle-write-iops = "2k"
[blockio.high]
weight = 1000
[rdt.gold]
schemata = ["L3:0=ff0;1=ff0", "MB:0=50"]
[rdt.silver]
`;
  const { blockio, rdt } = loadConfig({}, fileWith(text));
  const nothing = {
    readBytes: undefined,
    writeBytes: undefined,
    readOperations: undefined,
    writeOperations: undefined,
  };
  assert.deepEqual(blockio?.get("low"), [
    { devices: [], weight: 80, ...nothing },
    {
      devices: ["/dev/sd[a-z]", "/dev/nvme*"],
      weight: undefined,
      readBytes: 60_000_000,
      writeBytes: 2 ** 30,
      readOperations: 500,
      writeOperations: 2000,
    },
  ]);
  assert.deepEqual(blockio?.get("high"), [{ devices: [], weight: 1000, ...nothing }]);
  assert.deepEqual(
    [...(rdt ?? [])],
    [
      ["gold", { schemata: ["L3:0=ff0;1=ff0", "MB:0=50"] }],
      ["silver", { schemata: [] }],
    ],
  );
  const none = loadConfig({}, empty());
  assert.deepEqual([none.blockio, none.rdt], [null, null]);
});

for (const [text, sentence] of [
  ["blockio = 5", /config\.toml:1: blockio is not a table of classes/],
  ["[blockio]\nx = 5", /blockio\.x is no table/],
  ["[[blockio.x]]\nweight = 5", /blockio\.x\[0\]\.weight 5 is less than 10/],
  ["[[blockio.x]]\nweight = 1001", /weight 1001 is more than 1000/],
  ['[[blockio.x]]\nthrottle-read-bps = "1M"', /blockio\.x\[0\] has a throttle without devices/],
  ['[blockio.x]\ndevices = ["/dev/x"]\nthrottle-read-bps = "fast"', /throttle-read-bps "fast" is no rate/],
  ['[blockio.x]\ndevices = ["sda"]', /blockio\.x\.devices\.0 "sda" is not an absolute path/],
  ["[blockio.x]\ncolour = 1", /blockio\.x: there is no setting "colour"/],
  ['[rdt."a/b"]', /rdt\.a\/b: "a\/b" cannot be a class' name/],
  ['[rdt.x]\nschemata = ["L3"]', /rdt\.x\.schemata\.0 "L3" is no line/],
] as const) {
  test(`the classes ${JSON.stringify(text)} are refused`, () => {
    assert.throws(() => loadConfig({}, fileWith(`${text}\n`)), sentence);
  });
}
