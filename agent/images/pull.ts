/** PullImage: reference → manifest → configuration and layers → record. */
import { createHash } from "node:crypto";
import { BerthError, InternalError, messageOf, NotFoundError } from "../../sandbox/errors.js";
import type { Observer } from "../../sandbox/observer.js";
import { readAll } from "./digest.js";
import type { DownloadSlots } from "./download-slots.js";
import type { ImageRecord } from "./image-store.js";
import { type InstallDeps, installImage } from "./install-image.js";
import { choosePlatform, type Descriptor, parseManifest } from "./manifest.js";
import { hostPlatform } from "./platform.js";
import { formatName, formatReference, parseReference, type Reference } from "./reference.js";
import type { Registries, RegistryHost } from "./registries.js";
import type { RegistryAuth } from "./registry-auth.js";
import { openRegistryClient, type RegistryClient } from "./registry-client.js";
import type { PullProgress, RunningPulls } from "./running-pulls.js";
import type { Pace } from "./transfers.js";
import { lessPatient, type Patience } from "./transient.js";

export type { RegistryAuth };

export interface PullRequest {
  /** in any familiar form */
  reference: string;
  auth?: RegistryAuth;
  signal?: AbortSignal;
  /** of a pull of low priority; absent: at full speed */
  pace?: Pace;
}

export interface PullDeps extends InstallDeps {
  registries: Registries;
  pulls: RunningPulls;
  observer: Observer;
  patience: Patience;
  slots: DownloadSlots;
}

const maxIndexDepth = 3;

/**
 * Pulls an image; calls for the same reference with the same credentials share one flight. Hosts are tried in their
 * order. When all fail, the kind of the failure is the last one's, and what each of them said is told.
 * @throws InvalidArgumentError, NotFoundError, PermissionDeniedError, UnavailableError, ResourceExhaustedError,
 *   InternalError (other bytes than a digest promised), CancelledError
 */
export async function pullImage(deps: PullDeps, request: PullRequest): Promise<ImageRecord> {
  const reference = parseReference(request.reference);
  const signal = request.signal ?? new AbortController().signal;
  const priority = request.pace === undefined ? "normal" : "low";
  return deps.pulls.join(keyOf(request), priority, signal, (flightSignal, progress) =>
    pullFromAny(deps, reference, request, progress, flightSignal),
  );
}

/** How far such a pull is; undefined: none runs. */
export function pullProgress(deps: PullDeps, request: PullRequest): PullProgress | undefined {
  return deps.pulls.progressOf(keyOf(request));
}

function keyOf({ reference, auth }: PullRequest): string {
  return `${formatReference(parseReference(reference))} ${fingerprint(auth)}`;
}

/** Credentials are told apart without being kept as a key. */
function fingerprint(auth: RegistryAuth | undefined): string {
  return auth === undefined ? "" : createHash("sha256").update(JSON.stringify(auth)).digest("hex");
}

async function pullFromAny(
  deps: PullDeps,
  reference: Reference,
  request: PullRequest,
  progress: PullProgress,
  signal: AbortSignal,
): Promise<ImageRecord> {
  const hosts = await deps.registries.hostsOf(reference.registry);
  const usable = hosts.filter((host) => host.pulls && (host.resolves || reference.digest !== undefined));
  const failures: unknown[] = [];
  for (const host of usable) {
    const patience = host === usable.at(-1) ? deps.patience : lessPatient(deps.patience);
    try {
      return await pullFrom({ ...deps, patience }, host, reference, request, progress, signal);
    } catch (error) {
      if (signal.aborted || isOurOwn(error)) throw error;
      failures.push(error);
    }
  }
  throw together(failures, reference.registry);
}

function together(failures: readonly unknown[], registry: string): unknown {
  const last = failures.at(-1);
  if (last === undefined) return new NotFoundError(`no configured host of ${registry} may be pulled from`);
  if (failures.length === 1 || !(last instanceof BerthError)) return last;
  return new BerthError(last.kind, failures.map(messageOf).join("; then "), { cause: last });
}

/** A full disk here would not be less full with the next host. */
function isOurOwn(error: unknown): boolean {
  return error instanceof BerthError && error.kind === "RESOURCE_EXHAUSTED";
}

async function pullFrom(
  deps: PullDeps,
  host: RegistryHost,
  reference: Reference,
  request: PullRequest,
  progress: PullProgress,
  signal: AbortSignal,
): Promise<ImageRecord> {
  const client = await openRegistryClient(host, reference, request.auth, deps.patience);
  try {
    const { digest, config, layers, annotations } = await deps.observer.step("pull-image", "resolve", () =>
      resolve(client, reference, signal),
    );
    const image = {
      what: formatReference(reference),
      configuration: await readAll(client.blob(config, signal)),
      layers: layers.map(
        (layer) => (layerSignal: AbortSignal) =>
          deps.slots.holding(host.baseUrl, layerSignal, () => client.blob(layer, layerSignal)),
      ),
      registry: host.baseUrl,
      blobs: layers,
      annotations,
      repoTags: reference.tag === undefined ? [] : [formatReference(reference)],
      repoDigests: [`${formatName(reference)}@${digest}`],
    };
    return await installImage(deps, image, signal, {
      pace: request.pace,
      onLayers: (wanted) => {
        progress.layers = wanted;
      },
    });
  } finally {
    await client.close();
  }
}

interface Resolved {
  /** of what the reference names: a manifest or an index */
  digest: string;
  config: Descriptor;
  layers: Descriptor[];
  annotations: Record<string, string>;
}

async function resolve(client: RegistryClient, reference: Reference, signal: AbortSignal): Promise<Resolved> {
  const what = formatReference(reference);
  let version = reference.digest ?? reference.tag ?? "latest";
  let size: number | undefined;
  let digest: string | undefined;
  for (let depth = 0; depth <= maxIndexDepth; depth++) {
    const fetched = await client.manifest(version, size, signal);
    digest ??= fetched.digest;
    const manifest = parseManifest(fetched.bytes, fetched.contentType, what);
    if (manifest.kind === "image") return { ...manifest, digest };
    ({ digest: version, size } = choosePlatform(manifest.manifests, hostPlatform(), what));
  }
  throw new InternalError(`${what} is an index of indexes more than ${maxIndexDepth} deep`);
}
