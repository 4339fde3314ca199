/**
 * Random requests into everything that makes a spec and a plan of them. What comes out is a whole plan, or an error that
 * its caller is told and that names a field. BERTH_SEED repeats a run.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { berth } from "../../cri-proto/generated/monitor.js";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { askedDevices } from "../cdi/names.js";
import { BerthError, type FailureKind } from "../errors.js";
import { resolveUser } from "../identity.js";
import { toLaunchPlan } from "../launch-plan.js";
import { containerLabels, podLabels } from "../lsm/selinux-labels.js";
import { hostnameOf, resolvConf } from "../pod-files.js";
import { checkPodSecurity } from "../pod-security.js";
import { portMappings } from "../port-mappings.js";
import { apparmorChoice } from "./apparmor.js";
import { buildSpec } from "./build-spec.js";
import { specToJson } from "./bundle-spec.js";
import type { OciSpec } from "./oci.js";
import { type RandomOptions, randomFrom, randomMessage } from "./random-messages.js";
import { linuxResources } from "./resources.js";
import { host, image, specInput } from "./spec-fixtures.js";
import { criStopSignal } from "./stop-signal.js";
import { podSysctls } from "./sysctls.js";

const seed = Number(process.env["BERTH_SEED"] ?? Date.now() % 1_000_000);
const durationMs = 2_000;
const told: readonly FailureKind[] = ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED"];
const namesField = /config\.|^linux\.|the image's|^memory_swap_limit_in_bytes/;

const files: Record<string, string> = {
  "/etc/passwd":
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nbroken\nhuge:x:99999999999:1::/:\n",
  "/etc/group": "root:x:0:\nextra:x:2000:app\nbroken:x\n",
};

async function readFile(path: string): Promise<string> {
  return files[path] ?? "";
}

/** Runs one; true: it did what was asked. */
async function accepts(what: string, run: () => unknown): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    assert.ok(
      error instanceof BerthError && told.includes(error.kind),
      `${what} throws ${error instanceof Error ? error.stack : error}`,
    );
    assert.match(error.message, namesField, what);
    return false;
  }
}

/** As it comes from the wire. */
function configOf(options: RandomOptions): runtime.v1.IContainerConfig {
  const { ContainerConfig: Message } = runtime.v1;
  return Message.decode(Message.encode(Message.fromObject(randomMessage("ContainerConfig", options))).finish());
}

const context = { user: "u", role: "r", type: "t", level: "s0" };
const selinux = { enabled: true, process: context, file: context, problem: "", isValid: () => true };

function podConfigOf(options: RandomOptions): runtime.v1.IPodSandboxConfig {
  const { PodSandboxConfig: Message } = runtime.v1;
  return Message.decode(Message.encode(Message.fromObject(randomMessage("PodSandboxConfig", options))).finish());
}

function checkPlan(spec: OciSpec): void {
  assert.deepEqual(JSON.parse(JSON.stringify(spec)), spec, "a stored spec is the same");
  JSON.parse(specToJson(spec));
  const { Plan } = berth.monitor.v1;
  const mounts = spec.mounts.filter(({ type }) => type === "bind").map((mount, fd) => ({ mount, fd, isFile: false }));
  const { plan } = toLaunchPlan(spec, {
    rootFd: 1,
    mountFds: { mounts },
    cgroup: { tasksFiles: [], cgroup2Directory: "", oomKillFile: "" },
    hierarchies: host.cgroup.hierarchies,
    volumes: [],
    logPath: "",
    logs: { lineBytes: 16384, bytesPerSecond: 0 },
    stdin: false,
    stdinOnce: false,
    seccompFilter: new Uint8Array(),
    pidTarget: "",
  });
  const back = Plan.decode(Plan.encode(plan).finish());
  const { process: asked } = spec;
  assert.deepEqual([back.process?.uid, back.process?.gid], [asked.user.uid, asked.user.gid]);
  assert.deepEqual(back.process?.args, asked.args);
  for (const text of asked.args) assert.ok(!text.includes("\0"));
  for (const { destination } of spec.mounts) assert.match(destination, /^(\/(?!\.{1,2}(\/|$))[^/\0]+)+$/, destination);
}

test(`random requests, seed ${seed}`, async (t) => {
  const accepted: Record<string, number> = {};
  const count = (what: string, isAccepted: boolean) => {
    accepted[what] = (accepted[what] ?? 0) + Number(isAccepted);
  };
  let rounds = 0;
  for (const until = performance.now() + durationMs; performance.now() < until; rounds++) {
    const random = randomFrom(seed * 100_003 + rounds);
    const odd = [0, 0.01, 0.1, 0.5][rounds % 4] ?? 0;
    const options = { random, nonsense: odd, present: [0.1, 0.3, 0.8][rounds % 3] ?? 0 };
    const [config, podConfig] = [configOf(options), podConfigOf({ ...options, present: options.present / 2 })];
    const ofImage = image({ User: random() < 0.2 ? "app:extra" : "", Env: ["A=b", "=", "C"] });
    const resources = { field: "config.linux.resources", cgroupMode: random() < 0.5 ? "v2" : "v1" } as const;
    const checks: [string, () => unknown][] = [
      ["stop signal", () => criStopSignal(config, ofImage)],
      ["CDI names", () => askedDevices(config)],
      ["resources", () => linuxResources(config.linux?.resources, resources)],
      ["sysctls", () => podSysctls(podConfig)],
      ["hostname", () => hostnameOf(podConfig)],
      ["resolv.conf", () => resolvConf(podConfig.dns_config)],
      ["ports", () => portMappings(podConfig)],
      ["pod's security", () => checkPodSecurity(podConfig)],
      [
        "spec",
        async () => {
          const user = await resolveUser(readFile, { config, image: ofImage });
          const seccompProfile = '{"defaultAction":"SCMP_ACT_ALLOW"}';
          const apparmorProfile = apparmorChoice(config.linux?.security_context).kind === "localhost" ? "p" : null;
          const hostFiles = { devices: [], seccompProfile, apparmorProfile };
          const labels = containerLabels(selinux, config, podLabels(selinux, podConfig, []));
          checkPlan(buildSpec(specInput({ config, podConfig, image: ofImage, user, hostFiles, labels })));
        },
      ],
    ];
    for (const [what, run] of checks) count(what, await accepts(`round ${rounds} of seed ${seed}: ${what}`, run));
  }
  t.diagnostic(`${rounds} rounds; accepted: ${JSON.stringify(accepted)}`);
  for (const [what, times] of Object.entries(accepted)) assert.ok(times > 0, `nothing was accepted: ${what}`);
});
