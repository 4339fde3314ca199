/** PullImage: reference → manifest → configuration and layers → record. */
import { createHash } from "node:crypto";
import { BerthError, messageOf, NotFoundError } from "../../sandbox/errors.js";
import type { Observer } from "../../sandbox/observer.js";
import { readAll } from "./digest.js";
import type { DownloadSlots } from "./download-slots.js";
import type { ImageRecord, ImageStore } from "./image-store.js";
import { type InstallDeps, installImage } from "./install-image.js";
import { type Descriptor, findImage, type ParsedManifest, parseManifest, platformOfConfiguration } from "./manifest.js";
import { hostPlatform } from "./platform.js";
import { formatName, formatReference, parseReference, type Reference } from "./reference.js";
import type { Registries } from "./registries.js";
import type { RegistryAuth } from "./registry-auth.js";
import { openRegistryClient, type RegistryClient } from "./registry-client.js";
import type { RegistryHost } from "./registry-host.js";
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
  const pull = { key: keyOf(request), image: formatReference(reference) };
  return deps.pulls.join(pull, priority, signal, (flightSignal, progress) =>
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
  const pulling = hosts.filter((host) => host.pulls);
  const none = `no configured host of ${reference.registry} may be pulled from`;
  if (pulling.length === 0) throw new NotFoundError(none);
  let { digest } = reference;
  // who may only serve what a digest names is asked when somebody else has told the digest
  if (digest === undefined && pulling.some((host) => !host.resolves)) {
    const resolving = hosts.filter((host) => host.resolves);
    if (resolving.length === 0) throw new NotFoundError(`${none} by a tag`);
    digest = await fromAny(deps, resolving, signal, async (host, patience) => {
      const client = await openRegistryClient(host, reference, request.auth, patience);
      const version = reference.tag ?? "latest";
      return (await client.manifest(version, undefined, signal).finally(() => client.close())).digest;
    });
  }
  return fromAny(deps, pulling, signal, (host, patience) =>
    pullFrom({ ...deps, patience }, host, reference, digest, request, progress, signal),
  );
}

/** What the first host answers that can. */
async function fromAny<T>(
  { patience }: PullDeps,
  hosts: readonly RegistryHost[],
  signal: AbortSignal,
  ask: (host: RegistryHost, patience: Patience) => Promise<T>,
): Promise<T> {
  const failures: unknown[] = [];
  for (const host of hosts) {
    try {
      return await ask(host, host === hosts.at(-1) ? patience : lessPatient(patience));
    } catch (error) {
      if (signal.aborted || isOurOwn(error)) throw error;
      failures.push(error);
    }
  }
  throw together(failures);
}

function together(failures: readonly unknown[]): unknown {
  const last = failures.at(-1);
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
  digest: string | undefined,
  request: PullRequest,
  progress: PullProgress,
  signal: AbortSignal,
): Promise<ImageRecord> {
  const client = await openRegistryClient(host, reference, request.auth, deps.patience);
  try {
    const resolved = await deps.observer.step("pull-image", "resolve", () =>
      resolve(client, reference, digest, signal),
    );
    const { config, layers, annotations } = resolved;
    const image = {
      what: formatReference(reference),
      configuration:
        resolved.configuration ??
        (await knownConfiguration(deps.images, config.digest, formatName(reference))) ??
        (await readAll(client.blob(config, signal))),
      layers: layers.map((layer) => (layerSignal: AbortSignal) => {
        const open = (): AsyncIterable<Uint8Array> => client.blob(layer, layerSignal);
        // one that is paused must not keep a slot from the pull that it is paused for
        return request.pace === undefined ? deps.slots.holding(host.baseUrl, layerSignal, open) : open();
      }),
      registry: host.baseUrl,
      blobs: layers,
      annotations,
      repoTags: reference.tag === undefined ? [] : [formatReference(reference)],
      repoDigests: [`${formatName(reference)}@${resolved.digest}`],
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

/**
 * Of an image that is here already: a pull of what has not changed asks for the manifest alone. Another repository has to show
 * that it has the image: whoever knows the digest of one that is not for him could name it in a manifest of his own.
 */
async function knownConfiguration(images: ImageStore, digest: string, name: string): Promise<Buffer | undefined> {
  const record = images.find(digest);
  if (record?.id !== digest || !record.repoDigests.some((known) => known.startsWith(`${name}@`))) return undefined;
  const { text } = await images.configurationOf(record);
  return text === undefined ? undefined : Buffer.from(text);
}

interface Resolved {
  /** of what the reference names: a manifest or an index */
  digest: string;
  config: Descriptor;
  /** when it had to be read already */
  configuration?: Buffer;
  layers: Descriptor[];
  annotations: Record<string, string>;
}

/** @param known the digest of what the reference names, when it has been told */
async function resolve(
  client: RegistryClient,
  reference: Reference,
  known: string | undefined,
  signal: AbortSignal,
): Promise<Resolved> {
  const what = formatReference(reference);
  const read = async (version: string, size: number | undefined): Promise<[ParsedManifest, string]> => {
    const { bytes, contentType, digest } = await client.manifest(version, size, signal);
    return [parseManifest(bytes, contentType, what), digest];
  };
  const [named, digest] = await read(known ?? reference.tag ?? "latest", undefined);
  let configuration: { of: string; bytes: Buffer } | undefined;
  const { image } = await findImage(named, hostPlatform(), what, {
    read: async (entry) => (await read(entry.digest, entry.size))[0],
    async platformOf({ config }) {
      configuration = { of: config.digest, bytes: await readAll(client.blob(config, signal)) };
      return platformOfConfiguration(configuration.bytes);
    },
  });
  return { ...image, digest, ...(configuration?.of === image.config.digest && { configuration: configuration.bytes }) };
}
