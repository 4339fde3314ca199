import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import Long from "long";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { parseByteQuantity } from "../../sandbox/writable-limit.js";
import { acrossRestarts, addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { exitCodes, sentenceOf, UsageError, withProgramsCode } from "./failure.js";
import { openLogFollower } from "./log-follower.js";

const { ContainerState } = runtime.v1;
const { ProfileType } = runtime.v1.SecurityProfile;

interface RunOptions extends ClientOptions {
  env: string[];
  memory?: string;
  cpus?: string;
}

/** How often the log and the state are looked at. */
const pollMs = 50;
const graceSeconds = 10;
/** for an agent that has just ended to be followed by the next */
const removalPatienceMs = 60_000;
const logName = "0.log";
const cpuPeriodUs = 100_000;
/** the kernel takes no less */
const leastQuotaUs = 1_000;

export function addTo(parent: Command): void {
  const command = parent
    .command("run <IMAGE> [CMD...]")
    .description(
      "run an image as a pod of one container, in the foreground and without a terminal (berth exec -it has one); ends with its exit code",
    )
    .option("-e, --env <NAME=value>", "set an environment variable", (value, all: string[]) => [...all, value], [])
    .option("-m, --memory <SIZE>", "how much memory it may use: bytes, or with a unit as 100Mi")
    .option("--cpus <N>", "how many processors' time it may use: 0.5 is half of one's")
    .passThroughOptions();
  addClientOptions(command).action(run);
}

async function run(image: string, args: string[], options: RunOptions): Promise<void> {
  const envs = options.env.map(environmentVariable);
  const resources = limitsOf(options);
  const runOnce = async (client: Client): Promise<number> => {
    await pullWhenMissing(client, image);
    const logDirectory = await mkdtemp(join(tmpdir(), "berth-run-"));
    const uid = randomUUID();
    const podConfig = {
      metadata: { name: `run-${uid.slice(0, 8)}`, namespace: "berth-run", uid },
      log_directory: logDirectory,
    };
    let podId = "";
    const interrupt = onSignals();
    try {
      podId = (await client.call("RunPodSandbox", { config: podConfig })).pod_sandbox_id;
      const config = {
        metadata: { name: "main" },
        image: { image },
        args,
        envs,
        log_path: logName,
        // the CRI's own default is unconfined
        linux: { resources, security_context: { seccomp: { profile_type: ProfileType.RuntimeDefault } } },
      };
      interrupt.check();
      const request = { pod_sandbox_id: podId, config, sandbox_config: podConfig };
      const { container_id } = await client.call("CreateContainer", request);
      interrupt.check();
      await client.call("StartContainer", { container_id }).catch((error: unknown) => {
        if (!args[0]?.startsWith("-")) throw error;
        throw new Error(`${sentenceOf(error)}; berth's own options come before the image`, { cause: error });
      });
      interrupt.stops(client, container_id);
      return await follow(client, container_id, join(logDirectory, logName), options.json ?? false);
    } finally {
      const remove = () => client.call("RemovePodSandbox", { pod_sandbox_id: podId });
      if (podId !== "") await acrossRestarts(remove, removalPatienceMs);
      await rm(logDirectory, { recursive: true });
      interrupt.forget();
    }
  };
  await withProgramsCode(() => withClient(options, runOnce));
}

async function pullWhenMissing(client: Client, image: string): Promise<void> {
  const { image: found } = await client.call("ImageStatus", { image: { image } });
  if (!found) await client.call("PullImage", { image: { image } });
}

function environmentVariable(text: string): runtime.v1.IKeyValue {
  const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (key === undefined || value === undefined) throw new UsageError(`--env ${text} is not NAME=value`);
  return { key, value: Buffer.from(value) };
}

function limitsOf({ memory, cpus }: RunOptions): runtime.v1.ILinuxContainerResources {
  const limits: runtime.v1.ILinuxContainerResources = {};
  if (memory !== undefined) {
    const bytes = parseByteQuantity(memory);
    if (bytes === undefined) throw new UsageError(`--memory ${memory} is no size, as 1000000 or 100Mi`);
    limits.memory_limit_in_bytes = Long.fromNumber(bytes);
  }
  if (cpus !== undefined) {
    const quotaUs = Math.round(Number(cpus) * cpuPeriodUs);
    if (!(quotaUs >= leastQuotaUs)) throw new UsageError(`--cpus ${cpus} is no number of at least 0.01`);
    limits.cpu_period = Long.fromNumber(cpuPeriodUs);
    limits.cpu_quota = Long.fromNumber(quotaUs);
  }
  return limits;
}

/** Prints the log until the container has ended; answers its exit code. */
async function follow(client: Client, containerId: string, logPath: string, json: boolean): Promise<number> {
  const log = openLogFollower(logPath, { json });
  try {
    while (true) {
      const ask = () => client.call("ContainerStatus", { container_id: containerId });
      const { status } = await acrossRestarts(ask, Number.POSITIVE_INFINITY, () =>
        process.stderr.write("berth: no agent answers; the program runs on, and the next agent is waited for\n"),
      );
      // read after the state was asked: what it had written before its end is there by now
      await log.print();
      if (status?.state === ContainerState.CONTAINER_EXITED) return status.exit_code ?? 0;
      await sleep(pollMs);
    }
  } finally {
    await log.close();
  }
}

interface Interrupt {
  /** Throws when one has come. */
  check(): void;
  /** From now on they stop the container. */
  stops(client: Client, containerId: string): void;
  forget(): void;
}

/** Signals that end the command, also that of a terminal that is closed: what it has made goes first. */
function onSignals(): Interrupt {
  let asked = 0;
  let stop = (): void => undefined;
  const onSignal = () => {
    asked += 1;
    // whoever insists need not wait for an agent
    if (asked > 2) process.exit(exitCodes.ownFailure);
    stop();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  return {
    check() {
      if (asked > 0) throw new Error("interrupted");
    },
    stops(client, containerId) {
      stop = () => {
        const timeout = Long.fromNumber(asked === 1 ? graceSeconds : 0);
        // the loop sees the end; a failure shows there as a container that runs on
        const ask = () => client.call("StopContainer", { container_id: containerId, timeout });
        acrossRestarts(ask, removalPatienceMs).catch(() => undefined);
      };
      if (asked > 0) stop();
    },
    forget() {
      for (const signal of signals) process.off(signal, onSignal);
    },
  };
}
