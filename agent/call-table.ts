/** Every RPC → its handler: the index of the program. services.ts has their messages; the types hold the two together. */
import { attach } from "./calls/attach.js";
import { checkImages } from "./calls/check-images.js";
import { collectNetworkGarbage } from "./calls/collect-network-garbage.js";
import { containerStats } from "./calls/container-stats.js";
import { containerStatus } from "./calls/container-status.js";
import { createContainer } from "./calls/create-container.js";
import { diffContainer } from "./calls/diff-container.js";
import { exec } from "./calls/exec.js";
import { execSync } from "./calls/exec-sync.js";
import { exportImages } from "./calls/export-images.js";
import { findLeaks } from "./calls/find-leaks.js";
import { getContainerEvents } from "./calls/get-container-events.js";
import { imageDiskUsage } from "./calls/image-disk-usage.js";
import { imageFsInfo } from "./calls/image-fs-info.js";
import { imageStatus } from "./calls/image-status.js";
import { importImage } from "./calls/import-image.js";
import { inspectContainer } from "./calls/inspect-container.js";
import { inspectNetwork } from "./calls/inspect-network.js";
import { listContainerStats } from "./calls/list-container-stats.js";
import { listContainers } from "./calls/list-containers.js";
import { listImages } from "./calls/list-images.js";
import { listMetricDescriptors } from "./calls/list-metric-descriptors.js";
import { listNetworkRemovals } from "./calls/list-network-removals.js";
import { listPodSandbox } from "./calls/list-pod-sandbox.js";
import { listPodSandboxMetrics } from "./calls/list-pod-sandbox-metrics.js";
import { listPodSandboxStats } from "./calls/list-pod-sandbox-stats.js";
import { listRecentActivity } from "./calls/list-recent-activity.js";
import { mountBundle } from "./calls/mount-bundle.js";
import { podSandboxStats } from "./calls/pod-sandbox-stats.js";
import { podSandboxStatus } from "./calls/pod-sandbox-status.js";
import { portForward } from "./calls/port-forward.js";
import { prefetchImage } from "./calls/prefetch-image.js";
import { profileCpu } from "./calls/profile-cpu.js";
import { pruneImages } from "./calls/prune-images.js";
import { pullImage } from "./calls/pull-image.js";
import { pullWithProgress } from "./calls/pull-with-progress.js";
import { removeContainer } from "./calls/remove-container.js";
import { removeImage } from "./calls/remove-image.js";
import { removePodSandbox } from "./calls/remove-pod-sandbox.js";
import { reopenContainerLog } from "./calls/reopen-container-log.js";
import { runPodSandbox } from "./calls/run-pod-sandbox.js";
import { runtimeConfig } from "./calls/runtime-config.js";
import { snapshotHeap } from "./calls/snapshot-heap.js";
import { startContainer } from "./calls/start-container.js";
import { status } from "./calls/status.js";
import { stopContainer } from "./calls/stop-container.js";
import { stopPodSandbox } from "./calls/stop-pod-sandbox.js";
import { streamContainerStats } from "./calls/stream-container-stats.js";
import { streamContainers } from "./calls/stream-containers.js";
import { streamImages } from "./calls/stream-images.js";
import { streamPodSandboxMetrics } from "./calls/stream-pod-sandbox-metrics.js";
import { streamPodSandboxStats } from "./calls/stream-pod-sandbox-stats.js";
import { streamPodSandboxes } from "./calls/stream-pod-sandboxes.js";
import { tagImage } from "./calls/tag-image.js";
import { unimplemented } from "./calls/unimplemented.js";
import { unmountBundle } from "./calls/unmount-bundle.js";
import { updateContainerResources } from "./calls/update-container-resources.js";
import { updatePodSandboxResources } from "./calls/update-pod-sandbox-resources.js";
import { updateRuntimeConfig } from "./calls/update-runtime-config.js";
import { version } from "./calls/version.js";
import { watchHappenings } from "./calls/watch-happenings.js";
import type { Runtime } from "./runtime.js";
import type { AnyMethod, adminService, imageService, runtimeService } from "./services.js";

type Methods = typeof runtimeService & typeof imageService & typeof adminService;
type RequestOf<M extends AnyMethod> = ReturnType<M["request"]["decode"]>;
type AnswerOf<M extends AnyMethod> = Parameters<M["response"]["encode"]>[0];

type Handler<M extends AnyMethod> = (
  runtime: Runtime,
  request: RequestOf<M>,
  signal: AbortSignal,
  requestId: string,
) => M["stream"] extends true ? AsyncIterable<AnswerOf<M>> : AnswerOf<M> | Promise<AnswerOf<M>>;

export type CallTable = { readonly [Name in keyof Methods]: Handler<Methods[Name]> };

export const callTable: CallTable = {
  // the runtime
  Version: version,
  Status: status,
  RuntimeConfig: runtimeConfig,
  UpdateRuntimeConfig: updateRuntimeConfig,

  // pods
  RunPodSandbox: runPodSandbox,
  StopPodSandbox: stopPodSandbox,
  RemovePodSandbox: removePodSandbox,
  PodSandboxStatus: podSandboxStatus,
  ListPodSandbox: listPodSandbox,
  StreamPodSandboxes: streamPodSandboxes,
  UpdatePodSandboxResources: updatePodSandboxResources,
  PortForward: portForward,

  // containers
  CreateContainer: createContainer,
  StartContainer: startContainer,
  StopContainer: stopContainer,
  RemoveContainer: removeContainer,
  ContainerStatus: containerStatus,
  ListContainers: listContainers,
  StreamContainers: streamContainers,
  UpdateContainerResources: updateContainerResources,
  ReopenContainerLog: reopenContainerLog,
  ExecSync: execSync,
  Exec: exec,
  Attach: attach,
  CheckpointContainer: unimplemented("CheckpointContainer: checkpoints are not built yet"),
  CheckpointPod: unimplemented("CheckpointPod: checkpoints are not built yet"),
  RestorePod: unimplemented("RestorePod: checkpoints are not built yet"),

  // statistics and events
  ContainerStats: containerStats,
  ListContainerStats: listContainerStats,
  StreamContainerStats: streamContainerStats,
  PodSandboxStats: podSandboxStats,
  ListPodSandboxStats: listPodSandboxStats,
  StreamPodSandboxStats: streamPodSandboxStats,
  GetContainerEvents: getContainerEvents,
  ListMetricDescriptors: listMetricDescriptors,
  ListPodSandboxMetrics: listPodSandboxMetrics,
  StreamPodSandboxMetrics: streamPodSandboxMetrics,

  // images
  PullImage: pullImage,
  ListImages: listImages,
  StreamImages: streamImages,
  ImageStatus: imageStatus,
  RemoveImage: removeImage,
  ImageFsInfo: imageFsInfo,

  // Berth's own
  ImportImage: importImage,
  ExportImages: exportImages,
  TagImage: tagImage,
  PruneImages: pruneImages,
  PullWithProgress: pullWithProgress,
  CheckImages: checkImages,
  ImageDiskUsage: imageDiskUsage,
  InspectContainer: inspectContainer,
  DiffContainer: diffContainer,
  MountBundle: mountBundle,
  UnmountBundle: unmountBundle,
  ListNetworkRemovals: listNetworkRemovals,
  InspectNetwork: inspectNetwork,
  CollectNetworkGarbage: collectNetworkGarbage,
  FindLeaks: findLeaks,
  ProfileCpu: profileCpu,
  SnapshotHeap: snapshotHeap,
  ListRecentActivity: listRecentActivity,
  PrefetchImage: prefetchImage,
  WatchHappenings: watchHappenings,
};
