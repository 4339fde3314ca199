/** The runtime without gRPC: what calls/, cli/ and the metrics server share. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { native } from "../native/binding.js";
import type { AdjustSpec } from "../sandbox/adjust-spec.js";
import { countDiskIo } from "../sandbox/cgroup/disk-accounting.js";
import { openCgroupManager } from "../sandbox/cgroup/open.js";
import { openPodScopes } from "../sandbox/cgroup/systemd/scopes.js";
import { Rdt } from "../sandbox/classes/rdt.js";
import { type Container, layersInUse } from "../sandbox/container.js";
import { makeDirectories } from "../sandbox/directories.js";
import { Flights } from "../sandbox/flights.js";
import { Containers, Pods } from "../sandbox/index-of-ids.js";
import { openApparmor } from "../sandbox/lsm/apparmor.js";
import { openSelinux } from "../sandbox/lsm/selinux.js";
import { Monitors } from "../sandbox/monitors.js";
import { BuiltinNetwork } from "../sandbox/network/builtin.js";
import { ChosenNetwork } from "../sandbox/network/chosen.js";
import { CniNetwork } from "../sandbox/network/cni/cni-network.js";
import { NoNetwork } from "../sandbox/network/none.js";
import type { NetworkProvider } from "../sandbox/network/provider.js";
import type { SandboxNode } from "../sandbox/node.js";
import { Observer } from "../sandbox/observer.js";
import type { Pod } from "../sandbox/pod.js";
import { openStorageDriver } from "../sandbox/rootfs/drivers/open.js";
import { openLayerStore } from "../sandbox/rootfs/layer-store.js";
import { openSnapshots } from "../sandbox/rootfs/snapshots.js";
import { Serial } from "../sandbox/serial.js";
import { openStore } from "../sandbox/store.js";
import { CpuRates } from "./cgroup-stats.js";
import type { Config } from "./config.js";
import { liveSettings } from "./configuration/live-settings.js";
import { ContainerEvents } from "./container-events.js";
import { examineHost, type Finding } from "./doctor.js";
import { Happenings } from "./happenings.js";
import { collectOwed } from "./images/collect-owed.js";
import { type Images, openImages } from "./images/images.js";
import { forwardDrops, probeNftables } from "./nftables-probe.js";
import { refreshRuntimes } from "./oci-runtimes.js";
import { RecentCalls } from "./recent-calls.js";
import { StreamingServer } from "./streaming/server.js";
import { tellConditions } from "./tell-conditions.js";
import { WatchedPlaces } from "./watched-places.js";

export interface Runtime {
  /** the one in force: configuration/reload.ts replaces it */
  config: Config;
  readonly node: SandboxNode;
  readonly images: Images;
  readonly cpuRates: CpuRates;
  readonly events: ContainerEvents;
  readonly happenings: Happenings;
  readonly streams: StreamingServer;
  readonly recentCalls: RecentCalls;
  /** settings that this host does not allow as they are written, a sentence each */
  readonly clampedSettings: readonly string[];
  /** what the host lacks at this moment */
  examine(): Promise<Finding[]>;
}

/** Puts the parts of a node together. Nothing runs yet: recover(node) does that. */
export async function createRuntime(config: Config): Promise<Runtime> {
  for (const directory of [config.run, config.root]) makeDirectories(directory, 0o700);
  const containers = new Containers();
  const layers = await openLayerStore(
    config.root,
    await openStorageDriver(config.storageDriver, config.root, config.thinPool),
  );
  const observer = new Observer();
  const features = native.probeFeatures();
  const clamped: string[] = [];
  const cgroups = openCgroupManager();
  countDiskIo(cgroups.hierarchies);
  const node: SandboxNode = {
    paths: { run: config.run, root: config.root, netns: config.netnsDir },
    cgroupRoot: config.cgroupRoot,
    ...(await liveSettings(config, features, (sentence) => clamped.push(sentence))),
    bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    features,
    apparmor: await openApparmor(features.apparmor),
    selinux: openSelinux(features.selinux),
    rdt: new Rdt(),
    store: openStore(config.root, observer),
    pods: new Pods(),
    containers,
    monitors: new Monitors(),
    network: openNetwork(config, observer),
    cgroups,
    scopes: config.cgroupDriver === "systemd" ? await openPodScopes() : null,
    snapshots: await openSnapshots(config.root, layers),
    adjustSpec: await openAdjustment(config.specHooks, observer),
    observer,
    serial: new Serial(),
    podFlights: new Flights<Pod>(),
    containerFlights: new Flights<Container>(),
  };
  const images = await openImages({
    root: config.root,
    layers,
    registriesDirectories: config.registries,
    pinned: () => runtime.config.pinnedImages,
    observer,
    inUse: () => containers.list().flatMap(({ record }) => layersInUse(record)),
    onBroken: (path, why) =>
      observer.emit({ type: "repaired", what: "broken image record", subject: `${path}: ${why}` }),
  });
  observer.subscribe((happening) => {
    if (happening.type === "container-event" && happening.event === "deleted") collectOwed({ node, images });
  });
  // a kernel does not lose it again, and Status comes every few seconds
  let hasNftables = false;
  const probeNftablesOnce = async () => {
    if (!hasNftables) await probeNftables();
    hasNftables = true;
  };
  // a firewall's rules change seldom, and listing them is dear where there are many
  let drops: { at: number; chains: Promise<string[]> } | undefined;
  const forwardDropsLately = () => {
    if (drops === undefined || performance.now() - drops.at > 60_000)
      drops = { at: performance.now(), chains: forwardDrops() };
    return drops.chains;
  };
  const places = new WatchedPlaces(
    [
      { setting: "root", path: config.root },
      { setting: "root", path: join(config.root, "state") },
      // it may be a mount of its own
      { setting: "root", path: join(config.root, "layers"), consequence: "no image can be pulled, or removed" },
      {
        setting: "run",
        path: config.run,
        consequenceOfExchange: "pods that were made before are taken down when the agent starts again",
      },
      { setting: "netns-dir", path: config.netnsDir, isMadeLater: true },
    ],
    node.cgroups.hierarchies,
  );
  observer.subscribe((happening) => {
    if (happening.type === "record-written" && happening.failed) places.suspect();
  });
  const tell = tellConditions(observer);
  const runtime: Runtime = {
    config,
    node,
    images,
    cpuRates: new CpuRates(),
    events: new ContainerEvents(node, images),
    happenings: new Happenings(node),
    streams: new StreamingServer(config.streams, config.streamsTls, (error) =>
      observer.emit({
        type: "trouble",
        what: "take the new certificate of streams, whose old one stays",
        subject: config.streamsTls?.certificate ?? "",
        error,
      }),
    ),
    recentCalls: new RecentCalls(),
    clampedSettings: clamped,
    examine: async () => {
      await refreshRuntimes(node);
      const findings = await examineHost({
        root: "/",
        cgroups: node.cgroups,
        features: node.features,
        runtimes: [...node.runtimes.values()],
        apparmorProblem: node.apparmor.problem,
        selinuxProblem: node.selinux.problem,
        network: node.network.name,
        storageDriver: config.storageDriver,
        networkStatus: await node.network.status(),
        bridge: config.bridge,
        subnets: node.network.subnets(),
        listRoutes: () => native.listRoutes({}),
        forwardDrops: forwardDropsLately,
        probeNftables: probeNftablesOnce,
        places: () => places.findings(),
      });
      tell(findings);
      return findings;
    },
  };
  return runtime;
}

/** What it needs is loaded only where there are modules. */
async function openAdjustment(modules: readonly string[], observer: Observer): Promise<AdjustSpec | null> {
  if (modules.length === 0) return null;
  const { openSpecHooks } = await import("./spec-hooks/adjust.js");
  return openSpecHooks(modules, (subject, path, changed) =>
    observer.emit({ type: "adjusted", subject, path, changed }),
  );
}

function openNetwork(config: Config, observer: Observer): NetworkProvider {
  const { bridge, subnets } = config;
  const providers = {
    builtin: new BuiltinNetwork({
      addon: native,
      bridge,
      run: config.run,
      namespaceOf: (podId) => join(config.netnsDir, `berth-${podId}`),
      subnets,
      cidrPath: join(config.root, "pod-cidr"),
      positionsPath: join(config.root, "pod-addresses"),
      observer,
    }),
    cni: new CniNetwork({
      addon: native,
      configurationDirectory: config.cniConf,
      pluginDirectories: config.cniBin,
      cacheDirectory: config.cniCache,
      removalsDirectory: join(config.root, "network-removals"),
      observer,
    }),
    none: new NoNetwork(native),
  };
  return new ChosenNetwork(config.network, providers, observer);
}
