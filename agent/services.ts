/**
 * Every RPC on the agent's socket with its two messages: what the server (call-table.ts) and the command line's client
 * share. Nothing of the runtime is loaded here.
 */
import { berth } from "../cri-proto/generated/admin.js";
import { runtime } from "../cri-proto/generated/runtime.js";
import { EncodedAnswer } from "./encoded-answer.js";

/** The static code of a message type: what it encodes (fields may be left out) and what it decodes to. */
export interface Message<Written, Read> {
  encode(message: Written): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Read;
}

export interface Method<Question, QuestionRead, Answer, AnswerRead, Stream extends boolean = boolean> {
  readonly request: Message<Question, QuestionRead>;
  readonly response: Message<Answer, AnswerRead>;
  readonly stream: Stream;
}

export type AnyMethod = Method<never, unknown, never, unknown>;

function unary<Q, QR, A, AR>(request: Message<Q, QR>, response: Message<A, AR>): Method<Q, QR, A, AR, false> {
  return { request, response, stream: false };
}

function stream<Q, QR, A, AR>(request: Message<Q, QR>, response: Message<A, AR>): Method<Q, QR, A, AR, true> {
  return { request, response, stream: true };
}

const v1 = runtime.v1;

export const runtimeService = {
  Version: unary(v1.VersionRequest, v1.VersionResponse),
  RunPodSandbox: unary(v1.RunPodSandboxRequest, v1.RunPodSandboxResponse),
  StopPodSandbox: unary(v1.StopPodSandboxRequest, v1.StopPodSandboxResponse),
  RemovePodSandbox: unary(v1.RemovePodSandboxRequest, v1.RemovePodSandboxResponse),
  PodSandboxStatus: unary(v1.PodSandboxStatusRequest, v1.PodSandboxStatusResponse),
  ListPodSandbox: unary(v1.ListPodSandboxRequest, v1.ListPodSandboxResponse),
  StreamPodSandboxes: stream(v1.StreamPodSandboxesRequest, v1.StreamPodSandboxesResponse),
  CreateContainer: unary(v1.CreateContainerRequest, v1.CreateContainerResponse),
  StartContainer: unary(v1.StartContainerRequest, v1.StartContainerResponse),
  StopContainer: unary(v1.StopContainerRequest, v1.StopContainerResponse),
  RemoveContainer: unary(v1.RemoveContainerRequest, v1.RemoveContainerResponse),
  ListContainers: unary(v1.ListContainersRequest, v1.ListContainersResponse),
  StreamContainers: stream(v1.StreamContainersRequest, v1.StreamContainersResponse),
  ContainerStatus: unary(v1.ContainerStatusRequest, v1.ContainerStatusResponse),
  UpdateContainerResources: unary(v1.UpdateContainerResourcesRequest, v1.UpdateContainerResourcesResponse),
  ReopenContainerLog: unary(v1.ReopenContainerLogRequest, v1.ReopenContainerLogResponse),
  ExecSync: unary(v1.ExecSyncRequest, v1.ExecSyncResponse),
  Exec: unary(v1.ExecRequest, v1.ExecResponse),
  Attach: unary(v1.AttachRequest, v1.AttachResponse),
  PortForward: unary(v1.PortForwardRequest, v1.PortForwardResponse),
  ContainerStats: unary(v1.ContainerStatsRequest, v1.ContainerStatsResponse),
  ListContainerStats: unary(v1.ListContainerStatsRequest, v1.ListContainerStatsResponse),
  StreamContainerStats: stream(v1.StreamContainerStatsRequest, v1.StreamContainerStatsResponse),
  PodSandboxStats: unary(v1.PodSandboxStatsRequest, v1.PodSandboxStatsResponse),
  ListPodSandboxStats: unary(v1.ListPodSandboxStatsRequest, v1.ListPodSandboxStatsResponse),
  StreamPodSandboxStats: stream(v1.StreamPodSandboxStatsRequest, v1.StreamPodSandboxStatsResponse),
  UpdateRuntimeConfig: unary(v1.UpdateRuntimeConfigRequest, v1.UpdateRuntimeConfigResponse),
  Status: unary(v1.StatusRequest, v1.StatusResponse),
  CheckpointContainer: unary(v1.CheckpointContainerRequest, v1.CheckpointContainerResponse),
  CheckpointPod: unary(v1.CheckpointPodRequest, v1.CheckpointPodResponse),
  RestorePod: unary(v1.RestorePodRequest, v1.RestorePodResponse),
  GetContainerEvents: stream(v1.GetEventsRequest, v1.ContainerEventResponse),
  ListMetricDescriptors: unary(v1.ListMetricDescriptorsRequest, v1.ListMetricDescriptorsResponse),
  ListPodSandboxMetrics: unary(v1.ListPodSandboxMetricsRequest, v1.ListPodSandboxMetricsResponse),
  StreamPodSandboxMetrics: stream(v1.StreamPodSandboxMetricsRequest, v1.StreamPodSandboxMetricsResponse),
  RuntimeConfig: unary(v1.RuntimeConfigRequest, v1.RuntimeConfigResponse),
  UpdatePodSandboxResources: unary(v1.UpdatePodSandboxResourcesRequest, v1.UpdatePodSandboxResourcesResponse),
} as const;

export const imageService = {
  ListImages: unary(v1.ListImagesRequest, v1.ListImagesResponse),
  StreamImages: stream(v1.StreamImagesRequest, v1.StreamImagesResponse),
  ImageStatus: unary(v1.ImageStatusRequest, v1.ImageStatusResponse),
  PullImage: unary(v1.PullImageRequest, v1.PullImageResponse),
  RemoveImage: unary(v1.RemoveImageRequest, v1.RemoveImageResponse),
  ImageFsInfo: unary(v1.ImageFsInfoRequest, v1.ImageFsInfoResponse),
} as const;

/** Berth's own, for its command line. */
export const adminService = {
  ImportImage: unary(berth.v1.ImportImageRequest, berth.v1.ImportImageResponse),
  ExportImages: unary(berth.v1.ExportImagesRequest, berth.v1.ExportImagesResponse),
  TagImage: unary(berth.v1.TagImageRequest, berth.v1.TagImageResponse),
  PruneImages: unary(berth.v1.PruneImagesRequest, berth.v1.PruneImagesResponse),
  PullWithProgress: stream(berth.v1.PullWithProgressRequest, berth.v1.PullProgress),
  CheckImages: unary(berth.v1.CheckImagesRequest, berth.v1.CheckImagesResponse),
  ImageDiskUsage: unary(berth.v1.ImageDiskUsageRequest, berth.v1.ImageDiskUsageResponse),
  InspectContainer: unary(berth.v1.InspectContainerRequest, berth.v1.InspectContainerResponse),
  DiffContainer: stream(berth.v1.DiffContainerRequest, berth.v1.DiffContainerResponse),
  MountBundle: unary(berth.v1.MountBundleRequest, berth.v1.MountBundleResponse),
  UnmountBundle: unary(berth.v1.UnmountBundleRequest, berth.v1.UnmountBundleResponse),
  ListNetworkRemovals: unary(berth.v1.ListNetworkRemovalsRequest, berth.v1.ListNetworkRemovalsResponse),
  InspectNetwork: unary(berth.v1.InspectNetworkRequest, berth.v1.InspectNetworkResponse),
  CollectNetworkGarbage: unary(berth.v1.CollectNetworkGarbageRequest, berth.v1.ListNetworkRemovalsResponse),
  FindLeaks: unary(berth.v1.FindLeaksRequest, berth.v1.FindLeaksResponse),
  ProfileCpu: stream(berth.v1.ProfileCpuRequest, berth.v1.DebugPiece),
  SnapshotHeap: stream(berth.v1.SnapshotHeapRequest, berth.v1.DebugPiece),
  ListRecentActivity: unary(berth.v1.ListRecentActivityRequest, berth.v1.RecentActivity),
  PrefetchImage: unary(berth.v1.PrefetchImageRequest, berth.v1.PrefetchImageResponse),
  WatchHappenings: stream(berth.v1.WatchHappeningsRequest, berth.v1.Happening),
} as const;

/** By the names that gRPC paths carry: /<service>/<method>. */
export const services = {
  "runtime.v1.RuntimeService": runtimeService,
  "runtime.v1.ImageService": imageService,
  "berth.v1.Admin": adminService,
} as const;

/** 16 MiB each way: what the kubelet's own client allows. */
export const messageLimitBytes = 16 * 1024 * 1024;

/** A method as grpc-js wants it, for server and client. */
export function methodDefinition<Q, QR, A, AR>(service: string, name: string, method: Method<Q, QR, A, AR>) {
  return {
    path: `/${service}/${name}`,
    requestStream: false as const,
    responseStream: method.stream,
    requestSerialize: (message: Q) => asBuffer(method.request.encode(message).finish()),
    requestDeserialize: (bytes: Buffer) => method.request.decode(bytes),
    responseSerialize: (message: A) => encodeAnswer(method, message).bytes(),
    responseDeserialize: (bytes: Buffer) => method.response.decode(bytes),
  };
}

/** The same for a server that encodes an answer before it gives it to grpc-js, to know how long it is. */
export function serverDefinition<Q, QR, A, AR>(service: string, name: string, method: Method<Q, QR, A, AR>) {
  const responseSerialize = (answer: EncodedAnswer) => answer.bytes();
  return {
    ...methodDefinition(service, name, method),
    responseSerialize,
    responseDeserialize: () => undefined as never,
  };
}

export function encodeAnswer<A>({ response }: { response: Message<A, unknown> }, answer: A): EncodedAnswer {
  return EncodedAnswer.of(answer, (message) => response.encode(message).finish());
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
