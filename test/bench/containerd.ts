/** Debian's containerd with private paths, Debian's CNI plugins and a registry on loopback, to measure beside. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, connect } from "../../agent/cli/client.js";
import { native } from "../../native/binding.js";
import { buildBusyboxImage, pushImage } from "../support/image-builder.js";
import type { TestRegistry } from "../support/registry.js";
import { processesWith, pssMiB } from "./machine.js";

export interface Containerd {
  client: Client;
  logs: string;
  /** of all shims together */
  shimPssMiB(): number;
  stop(): Promise<void>;
}

const bridge = "benchcni0";
const startTimeoutMs = 20_000;

export async function startContainerd(registry: TestRegistry): Promise<Containerd> {
  const base = mkdtempSync("/tmp/bench-containerd-");
  const logs = join(base, "logs");
  mkdirSync(join(base, "cni"));
  mkdirSync(logs);
  // the image of its pause container
  const pause = await buildBusyboxImage({ config: { Entrypoint: ["/bin/sleep", "1000000"], Cmd: [] } });
  await pushImage(registry.url, "pause", "1", pause);
  writeFileSync(join(base, "cni", "10-bench.conflist"), JSON.stringify(networkConfig(base)));
  writeFileSync(join(base, "config.toml"), configuration(base, `${registry.host}/pause:1`));
  const child = spawn("containerd", ["--config", join(base, "config.toml")], {
    stdio: "ignore",
    env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/usr/bin` },
  });
  const client = connect(`unix://${base}/containerd.sock`);
  const stop = async (): Promise<void> => {
    client.close();
    await endProcess(child);
    for (const pid of processesWith(base)) process.kill(pid, "SIGKILL");
    for (const path of mountsBelow(base)) await native.unmount(path);
    await native.deleteLink(bridge);
    rmSync(base, { recursive: true, force: true });
  };
  try {
    await untilReady(client);
  } catch (error) {
    await stop();
    throw error;
  }
  return { client, logs, shimPssMiB: () => sum(processesWith("containerd-shim").map(pssMiB)), stop };
}

async function untilReady(client: Client): Promise<void> {
  for (const until = Date.now() + startTimeoutMs; ; await sleep(100)) {
    try {
      await client.call("Version", { version: "v1" }, 1_000);
      return;
    } catch (error) {
      if (Date.now() > until) throw error;
    }
  }
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  await once(child, "exit");
}

function mountsBelow(base: string): string[] {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "");
  return points.filter((point) => point.startsWith(`${base}/`)).reverse();
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function networkConfig(base: string): object {
  const ipam = {
    type: "host-local",
    dataDir: join(base, "ipam"),
    ranges: [[{ subnet: "10.213.0.0/16" }]],
    routes: [{ dst: "0.0.0.0/0" }],
  };
  return {
    cniVersion: "0.4.0",
    name: "bench",
    plugins: [
      { type: "bridge", bridge, isGateway: true, ipMasq: false, ipam },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  };
}

function configuration(base: string, pauseImage: string): string {
  return `version = 2
root = "${base}/root"
state = "${base}/state"
[grpc]
address = "${base}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${pauseImage}"
# without CAP_SYS_RESOURCE nobody gets a lower one
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "${base}/cni"
[plugins."io.containerd.internal.v1.opt"]
path = "${base}/opt"
`;
}
