/** What of a pod, a DaemonSet and a ConfigMap counts here: all else of them is let go of at once. */
import type { V1ConfigMap, V1DaemonSet, V1Pod, V1PodSpec } from "@kubernetes/client-node";
import { formatReference, parseReference } from "../images/reference.js";
import type { ApiObject } from "./informer.js";
import { type Workload, workloadOf } from "./workloads.js";

export interface KnownPod {
  namespace: string;
  name: string;
  uid: string;
  /** whole references; none that could be had only with the pod's own credentials */
  images: readonly string[];
  /** it is bound, and not all of its containers have been started */
  pending: boolean;
  owners: readonly string[];
  workload: Workload;
}

export interface KnownDaemonSet {
  images: readonly string[];
}

const mostListed = 200;

export function keepPod(object: ApiObject): KnownPod {
  const { metadata, spec, status } = object as V1Pod;
  return {
    namespace: metadata?.namespace ?? "",
    name: metadata?.name ?? "",
    uid: metadata?.uid ?? "",
    images: imagesOf(spec),
    pending: status?.phase === "Pending" && metadata?.deletionTimestamp === undefined,
    owners: (metadata?.ownerReferences ?? []).map(({ uid }) => uid),
    workload: workloadOf(metadata ?? {}),
  };
}

export function keepDaemonSet(object: ApiObject): KnownDaemonSet {
  return { images: imagesOf((object as V1DaemonSet).spec?.template.spec) };
}

/** A line each in data.images; "#" begins a comment. @throws Error: a line is no reference */
export function keepImageList(object: ApiObject): readonly string[] {
  const lines = ((object as V1ConfigMap).data?.["images"] ?? "").split("\n");
  const named = lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line !== "");
  if (named.length > mostListed) throw new Error(`data.images names ${named.length} images; ${mostListed} at most`);
  return named.map(wholeReference);
}

/** The images that pods wait for. */
export function imagesOfPending(pods: Iterable<KnownPod>): string[] {
  return unique([...pods].filter(({ pending }) => pending).flatMap(({ images }) => images));
}

/** What DaemonSets that have a pod on this node would have in the next one. */
export function imagesOfRolling(pods: Iterable<KnownPod>, daemonSets: ReadonlyMap<string, KnownDaemonSet>): string[] {
  const known = [...pods];
  const here = new Set(known.flatMap(({ images }) => images));
  const owners = new Set(known.flatMap((pod) => pod.owners));
  const wanted = [...owners].flatMap((uid) => daemonSets.get(uid)?.images ?? []);
  return unique(wanted).filter((image) => !here.has(image));
}

function imagesOf(spec: V1PodSpec | undefined): string[] {
  // the credentials are the kubelet's to fetch: with a right to read secrets, this process could read all of the cluster's
  if (spec === undefined || (spec.imagePullSecrets?.length ?? 0) > 0) return [];
  const containers = [...(spec.containers ?? []), ...(spec.initContainers ?? [])];
  const images = containers.map(({ image, imagePullPolicy }) => ({ reference: image, pullPolicy: imagePullPolicy }));
  const volumes = (spec.volumes ?? []).flatMap(({ image }) => image ?? []);
  const pulled = [...images, ...volumes].filter(({ pullPolicy }) => pullPolicy !== "Never");
  return unique(pulled.flatMap(({ reference }) => (reference ? [wholeReference(reference)] : [])));
}

function wholeReference(image: string): string {
  return formatReference(parseReference(image));
}

function unique(images: readonly string[]): string[] {
  return [...new Set(images)];
}
