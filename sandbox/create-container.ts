import { rmSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { runtime } from "../cri-proto/generated/runtime.js";
import { native } from "../native/binding.js";
import { specSubject } from "./adjust-spec.js";
import { applyCdiEdits } from "./cdi/apply-edits.js";
import { askedDevices } from "./cdi/names.js";
import { findCdiEdits } from "./cdi/registry.js";
import type { CgroupHandles } from "./cgroup/manager.js";
import { containerClasses } from "./classes/container-classes.js";
import type { Container, ContainerConfig, ContainerRecord } from "./container.js";
import {
  AlreadyExistsError,
  FailedPreconditionError,
  InternalError,
  InvalidArgumentError,
  NotFoundError,
} from "./errors.js";
import { fieldsOfContainer } from "./field-of-step.js";
import { checkNotCancelled } from "./flights.js";
import {
  hookSubject,
  planHooks,
  runCreateRuntimeHooks,
  runLaterHooks,
  writeHookBundle,
} from "./hooks/container-hooks.js";
import { findHooks } from "./hooks/directory.js";
import { withHooks } from "./hooks/merge.js";
import { readHostFiles } from "./host-files.js";
import { resolveUser } from "./identity.js";
import type { OciImageConfig } from "./image-config.js";
import { imageFileReader } from "./image-files.js";
import { newId } from "./index-of-ids.js";
import { Latch } from "./latch.js";
import { toLaunchPlan } from "./launch-plan.js";
import { containerLabels, tellOfIgnoredLabels } from "./lsm/selinux-labels.js";
import { MadeDirectories, makeLogDirectory } from "./made-directories.js";
import { toCallError } from "./monitor-client.js";
import type { MountInfo } from "./mount-info.js";
import type { SandboxNode } from "./node.js";
import { runtimeOf } from "./oci-runtimes.js";
import { makesMissingSources, openMounts } from "./open-mounts.js";
import { podDirectory } from "./paths.js";
import type { Pod, PodSandboxConfig } from "./pod.js";
import { endCreation, makeContainerCgroup } from "./pod-cgroups.js";
import {
  checkFollowing,
  followsHost,
  hostMounts,
  MountsChangedError,
  placesOf,
  readMountTables,
  readTablesOfProcess,
} from "./propagation.js";
import { clearReflected, findLeftBehind, findReflected, type ReflectedMount } from "./reflected-mounts.js";
import { relabelling } from "./relabel.js";
import { forgetInMonitor } from "./remove-container.js";
import { makeBundle, removeBundle } from "./runtime-bundle.js";
import { seccompFilter, storedSpec } from "./seccomp-filters.js";
import { buildSpec } from "./spec/build-spec.js";
import type { ImageVolumeSource } from "./spec/image-volumes.js";
import type { OciSpec } from "./spec/oci.js";
import { criStopSignal } from "./spec/stop-signal.js";
import { podUserNamespace } from "./spec/user-namespace.js";
import { specHost } from "./spec-host.js";
import { update } from "./store.js";
import { together, Undo } from "./undo.js";
import { openUserNamespaces } from "./user-namespaces.js";
import { writableLimitOf } from "./writable-limit.js";

/** PATH_MAX and NAME_MAX of linux/limits.h */
const maxPathBytes = 4096;
const maxNameBytes = 255;

/** What a container takes from its image. */
export interface ContainerImage {
  /** "sha256:..." */
  id: string;
  /** chain ids, bottom first */
  layers: string[];
  config: OciImageConfig;
}

export interface CreateContainerOptions {
  config: ContainerConfig;
  image: ContainerImage;
  /** the images of config.mounts, whose image_ref is the image's id; "sha256:..." to chain ids, bottom first */
  volumeLayers: Record<string, string[]>;
  /** the request says of the pod that it runs privileged containers, whatever it was made for */
  podRunsPrivileged: boolean;
}

/**
 * Makes a container whose init has built its root file system and waits: the record (the intent), the root file system,
 * the OCI spec, the mounts' sources, the cgroup, and at last the init. What is wrong in the request is told by this call
 * and leaves nothing; what cannot be taken away again goes with the pod. Two calls for the same name and attempt share one
 * creation.
 */
export async function createContainer(
  node: SandboxNode,
  pod: Pod,
  options: CreateContainerOptions,
  signal?: AbortSignal,
): Promise<Container> {
  const name = containerName(pod, options.config);
  return node.containerFlights.join(name, signal, async (abandoned) => {
    checkReady(pod);
    const namesake = node.containers.ofPod(pod.record.id).find((other) => containerName(pod, other.config) === name);
    if (namesake !== undefined) {
      throw new AlreadyExistsError(`config.metadata: container ${namesake.record.id} has this name and attempt`);
    }
    for (let attempt = 1; ; attempt++) {
      const undo = new Undo();
      // what only this call needs, and no container: open mounts
      const scratch = new Undo();
      const id = newId();
      try {
        const container = await makeContainer(node, pod, id, options, { undo, scratch, abandoned });
        undo.commit();
        return container;
      } catch (error) {
        const left = await undo.run();
        for (const { what, error } of left) node.observer.emit({ type: "trouble", what, subject: id, error });
        if (left.length > 0) keepHalfMade(node, id);
        if (error instanceof MountsChangedError && attempt < maxAttempts) continue;
        checkReady(pod, error);
        const what = `container ${options.config.metadata?.name} could not be created`;
        throw toCallError(error, what, fieldsOfContainer(options.config));
      } finally {
        await scratch.run();
      }
    }
  });
}

/** How often a container is made anew because the host's mounts changed meanwhile. */
const maxAttempts = 5;

interface Making {
  undo: Undo;
  scratch: Undo;
  abandoned: AbortSignal;
}

async function makeContainer(
  node: SandboxNode,
  pod: Pod,
  id: string,
  { config, image, volumeLayers, podRunsPrivileged }: CreateContainerOptions,
  { undo, scratch, abandoned }: Making,
): Promise<Container> {
  const { observer } = node;
  const step = async <T>(name: string, run: () => Promise<T> | T): Promise<T> => {
    checkNotCancelled(abandoned, "CreateContainer");
    return observer.step("create-container", name, run);
  };
  const monitor = node.monitors.get(pod.record.id);
  const writableLimit = writableLimitOf(config, pod.config, node.writableLimitBytes);
  const cgroupPath = join(pod.record.cgroupParent, id);
  const logPath = logPathOf(pod.config, config);

  tellOfIgnoredLabels(node.observer, node.selinux, config.linux?.security_context?.selinux_options);
  const labels = containerLabels(node.selinux, config, pod.record.selinux);

  undo.pushForgetting("remove the record", () => node.store.containers.delete(id));
  const planned = { record: planRecord(pod, id, config, image, { cgroupPath, logPath, volumeLayers }) };
  undo.pushForgetting("remove the parents of the cgroup", () => endCreation(node, planned));
  undo.push("remove the directory of a pod that was removed meanwhile", () => {
    if (node.pods.find(pod.record.id) !== undefined) return;
    rmSync(podDirectory(node.paths, pod.record.id), { recursive: true, force: true });
  });
  await step("record", () => {
    node.store.containers.put(planned.record);
    node.containers.creations.add(planned);
  });
  const made = new MadeDirectories((all) => update(node.store.containers, planned, { madeDirectories: [...all] }));
  undo.push("remove the directories made on the host", () => made.takeBack());

  const namespaces = openUserNamespaces(pod);
  scratch.push("close the user namespaces", () => namespaces.close());
  undo.push("remove the root file system", () => node.snapshots.removeRootfs(id));
  const root = step("root file system", async () => {
    const mappings = podUserNamespace(pod.config);
    const users = mappings && { mappings, fd: await namespaces.descriptorFor(mappings) };
    const { rootFd } = await node.snapshots.prepareRootfs({
      containerId: id,
      layers: image.layers,
      users,
      mountLabel: labels?.mount,
      limitBytes: writableLimit,
    });
    scratch.push("close the root file system", () => native.closeDescriptor(rootFd));
    return rootFd;
  });
  const mountsBefore: MountInfo[][] = [];
  const prepare = async () => {
    const spec = await step("spec", async () => {
      const user = await resolveUser(imageFileReader(image.layers, root), { config, image: image.config });
      const spec = buildSpec({
        containerId: id,
        podId: pod.record.id,
        config,
        podConfig: pod.config,
        podRunsPrivileged,
        image: image.config,
        user,
        host: specHost(node),
        hostFiles: await readHostFiles(config, node.apparmor),
        classes: await containerClasses(node, config, pod.config),
        labels,
        podFiles: podFiles(node, pod),
        cgroupPath,
      });
      const edited = await applyCdiEdits(spec, await findCdiEdits(askedDevices(config), node.cdiDirectories));
      const ids = { podId: pod.record.id, containerId: id };
      const adjusted = (await node.adjustSpec?.(edited, specSubject(ids, config, pod.config))) ?? edited;
      return withHooks(adjusted, await findHooks(node.hooksDirectory, hookSubject(config, pod.config, adjusted)));
    });
    tellOfClamping(node, config, spec);

    const mountImage = ({ imageId, subPath }: ImageVolumeSource, userNamespaceFd?: number): Promise<number> => {
      const layers = volumeLayers[imageId];
      if (layers === undefined) throw new InternalError(`the layers of image ${imageId} are not known`);
      return node.snapshots.mountImage({ layers, subPath, userNamespaceFd, mountLabel: labels?.mount });
    };
    undo.push("remove the cgroup", async () => {
      // a monitor that was lost meanwhile has not ended the init
      await node.cgroups.kill(cgroupPath);
      await node.cgroups.remove(cgroupPath);
    });
    const openSources = async () => {
      // mountinfo lists mounts by their age: programs expect the root to be the first
      await root;
      mountsBefore.push(hostMounts(spec));
      const opened = await openMounts(spec, {
        makeMissing: makesMissingSources(config) ? (path: string) => made.make(path) : null,
        mountImage,
        namespaces,
        relabelling: relabelling(config, podFiles(node, pod), labels?.mount),
      });
      scratch.push("close the mounts", () => opened.close());
      mountsBefore.push(hostMounts(spec));
      return opened;
    };
    const [mountFds] = await step("mounts and cgroup", () =>
      together(openSources, () => makeContainerCgroup(node, pod, planned, spec.linux.resources)),
    );
    return { spec, mountFds };
  };
  const [rootFd, { spec, mountFds }] = await together(() => root, prepare);

  if (logPath !== "") makeLogDirectory(made, dirname(logPath), "config.log_path");
  // an OCI runtime finds them in its config.json, and runs them itself
  const foreign = runtimeOf(node, pod);
  const hooks = foreign === null ? planHooks(node, spec, id) : null;
  if (foreign === null) await writeHookBundle(node, spec, { id, podId: pod.record.id });
  const launch = toLaunchPlan(spec, {
    hooks,
    rootFd,
    mountFds,
    cgroup: handlesOf(node, cgroupPath, foreign === null ? spec : undefined),
    hierarchies: node.cgroups.hierarchies,
    logPath,
    logs: node.logs,
    volumes: Object.keys(image.config.config.Volumes),
    stdin: config.stdin ?? false,
    stdinOnce: config.stdin_once ?? false,
    seccompFilter: seccompFilter(spec),
    pidTarget: pidTargetOf(node, pod, config),
  });
  const stored = storedSpec(foreign === null ? spec : withoutHooks(spec), config);
  if (foreign === null && (spec.hooks?.poststop ?? []).length > 0) {
    undo.push("run the poststop hooks", () => runLaterHooks(node, "poststop", { id, spec }, 0));
    // an agent that is killed from now on finds them in the record
    update(node.store.containers, planned, { spec: stored });
  }
  if (foreign !== null) undo.push("remove the bundle", () => removeBundle(node, pod.record.id, id));
  const { plan, descriptors } = foreign === null ? launch : makeBundle(node, pod, { spec, launch, runtime: foreign });
  let reflected: ReflectedMount[] | undefined;
  const mountsAtFirst = mountsBefore[0] ?? [];
  if (spec.mounts.some(followsHost)) {
    undo.push("clear what its mounts left on the host", () =>
      clearReflected(node, reflected ?? findLeftBehind(mountFds, mountsAtFirst)),
    );
  }
  undo.push("end the init", () => forgetInMonitor(node, pod.record.id, id));
  let pid = await step("init", () => monitor.createContainer(id, plan, descriptors));
  // without a pid an OCI runtime has found its program wanting, of which the start tells; it has no mounts, then
  if (pid !== 0 && spec.mounts.some(followsHost)) {
    await step("propagation", async () => {
      // one with hooks has not left the host's root yet, and an OCI runtime makes copies of the mounts
      const tables = await (foreign === null
        ? readMountTables(placesOf(spec), pid, rootFd)
        : readTablesOfProcess(placesOf(spec), pid));
      reflected = findReflected(tables, mountsAtFirst);
      // an agent that is killed from now on finds them in the record
      if (reflected.length > 0) update(node.store.containers, planned, { reflectedMounts: reflected });
      checkFollowing(spec, tables, mountsBefore);
    });
  }
  if (hooks?.pause) {
    await step("hooks", () => runCreateRuntimeHooks(node, spec, id, pid));
    pid = await step("init, after hooks", () => monitor.continueContainer(id));
  }

  const container: Container = { record: planned.record, config, pid, ended: new Latch() };
  await step("created", () => {
    // a stop of the pod that came in between has not seen this container
    checkReady(pod);
    update(node.store.containers, container, { phase: "created", spec: stored });
    node.containers.add(container);
    node.containers.creations.delete(planned);
    observer.emit({ type: "container-event", event: "created", podId: pod.record.id, containerId: id });
  });
  return container;
}

/** What could not be taken back goes with its pod, or at the start of the next agent. */
function keepHalfMade(node: SandboxNode, id: string): void {
  const creation = [...node.containers.creations].find(({ record }) => record.id === id);
  if (creation !== undefined) node.containers.halfMade.add(creation);
}

/** What its processes join; of an RDT class they become by the same kind of file. An OCI runtime sees to that itself. */
function handlesOf(node: SandboxNode, cgroupPath: string, spec: OciSpec | undefined): CgroupHandles {
  const handles = node.cgroups.handles(cgroupPath);
  const { closID } = spec?.linux.intelRdt ?? {};
  if (closID === undefined) return handles;
  return { ...handles, tasksFiles: [...handles.tasksFiles, node.rdt.tasksFile(closID)] };
}

/** The spec of a container whose hooks are not for Berth to run. */
function withoutHooks({ hooks: _, ...spec }: OciSpec): OciSpec {
  return spec;
}

/** Without CAP_SYS_RESOURCE nobody gets a lower oom_score_adj than the agent has. */
function tellOfClamping(node: SandboxNode, config: ContainerConfig, spec: OciSpec): void {
  const asked = Number(config.linux?.resources?.oom_score_adj ?? 0);
  const given = spec.process.oomScoreAdj ?? asked;
  if (given === asked) return;
  node.observer.limitation(
    "oom_score_adj",
    `containers get an oom_score_adj of ${given} where ${asked} is asked for: this agent has no CAP_SYS_RESOURCE and cannot lower it`,
  );
}

function planRecord(
  pod: Pod,
  id: string,
  config: ContainerConfig,
  image: ContainerImage,
  { volumeLayers, ...places }: { cgroupPath: string; logPath: string; volumeLayers: Record<string, string[]> },
): ContainerRecord {
  const { ContainerConfig: Message } = runtime.v1;
  return {
    version: 1,
    id,
    podId: pod.record.id,
    phase: "creating",
    config: Message.toObject(Message.fromObject(config), { longs: String, bytes: String }),
    imageId: image.id,
    layers: image.layers,
    ...(Object.keys(volumeLayers).length > 0 && { volumeLayers }),
    spec: null,
    ...places,
    createdAt: (BigInt(Date.now()) * 1_000_000n).toString(),
    startedAt: "0",
    finishedAt: "0",
    exitCode: 0,
    reason: "",
    message: "",
    stopSignal: criStopSignal(config, image.config),
  };
}

/** The whole id of the container whose PID namespace is asked for; empty: none is. It must be of the same pod. */
function pidTargetOf(node: SandboxNode, pod: Pod, config: ContainerConfig): string {
  const options = config.linux?.security_context?.namespace_options;
  if (options?.pid !== runtime.v1.NamespaceMode.TARGET) return "";
  const field = "config.linux.security_context.namespace_options.target_id";
  const target = node.containers.find(options.target_id ?? "");
  if (target === undefined) throw new NotFoundError(`${field}: container "${options.target_id}" is not known`);
  const { id, podId } = target.record;
  if (podId !== pod.record.id) throw new InvalidArgumentError(`${field}: container ${id} is not of this pod`);
  const mode = target.config.linux?.security_context?.namespace_options?.pid ?? runtime.v1.NamespaceMode.POD;
  if (mode !== runtime.v1.NamespaceMode.CONTAINER) {
    throw new InvalidArgumentError(
      `${field}: container ${id} has no PID namespace of its own, its mode is ${runtime.v1.NamespaceMode[mode]}`,
    );
  }
  return id;
}

/** The CRI's log path is relative to the pod's log directory and stays in it. Empty: no log. */
function logPathOf(podConfig: PodSandboxConfig, config: ContainerConfig): string {
  const directory = podConfig.log_directory ?? "";
  const path = config.log_path ?? "";
  if (directory === "" || path === "") return "";
  const inside = normalize(path);
  if (inside.startsWith("/") || inside === "." || inside.split("/").includes("..") || path.includes("\0")) {
    throw new InvalidArgumentError(`config.log_path: ${JSON.stringify(path)} does not stay in the pod's log directory`);
  }
  const whole = join(directory, inside);
  if (Buffer.byteLength(whole) >= maxPathBytes || inside.split("/").some((n) => Buffer.byteLength(n) > maxNameBytes)) {
    throw new InvalidArgumentError(`config.log_path: ${JSON.stringify(path)} is too long for a file's name`);
  }
  return whole;
}

function podFiles(node: SandboxNode, pod: Pod): { resolvConf: string; hostname: string; hosts: string } {
  const directory = podDirectory(node.paths, pod.record.id);
  return {
    resolvConf: join(directory, "resolv.conf"),
    hostname: join(directory, "hostname"),
    hosts: join(directory, "hosts"),
  };
}

/** @param cause what failed, most likely for the pod's end */
function checkReady(pod: Pod, cause?: unknown): void {
  if (pod.record.phase !== "ready") {
    throw new FailedPreconditionError(
      `pod sandbox ${pod.record.id} is ${pod.record.phase}: no container can be made in it`,
      { cause },
    );
  }
}

/** What makes two requests be for the same container. */
function containerName(pod: Pod, config: ContainerConfig): string {
  return JSON.stringify([pod.record.id, config.metadata?.name ?? "", config.metadata?.attempt ?? 0]);
}
