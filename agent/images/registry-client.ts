/** One repository on one registry host, by the OCI distribution specification: manifests and blobs, with tokens. */
import { CancelledError, InternalError, NotFoundError, PermissionDeniedError } from "../../sandbox/errors.js";
import { downloadBlob } from "./blob-download.js";
import { algorithmOf, digestOf, digestPattern, verified } from "./digest.js";
import { type HttpResponse, openHttpClient } from "./http.js";
import { readBody } from "./http-body.js";
import { failureOf } from "./http-failures.js";
import { type Descriptor, manifestTypes, maxManifestBytes } from "./manifest.js";
import { formatName, formatReference, type Reference } from "./reference.js";
import { authIsFor, type RegistryAuth } from "./registry-auth.js";
import type { RegistryHost } from "./registry-host.js";
import { Authorizer } from "./registry-tokens.js";
import { type Patience, retried } from "./transient.js";

export interface FetchedManifest {
  bytes: Buffer;
  digest: string;
  contentType: string;
}

export interface RegistryClient {
  /**
   * @param version a tag or a digest
   * @param size what the descriptor says, where there is one
   * @throws NotFoundError, PermissionDeniedError, UnavailableError, InternalError (another digest or size)
   */
  manifest(version: string, size: number | undefined, signal: AbortSignal): Promise<FetchedManifest>;
  /** Verified by digest and size while it is read. A piece is valid until the next one is asked for. */
  blob(descriptor: Pick<Descriptor, "digest" | "size" | "urls">, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Blobs that are on their way come to their end. */
  close(): Promise<void>;
}

/** Of a request for a part: that part, or another one, or that there is none such. */
const partStatuses = [206, 416];
const blobTypes = "application/octet-stream, */*";
const maxForeignUrls = 4;
/** A token may expire between two requests, and its successor may be refused for a reason of its own. */
const maxRenewals = 2;

/** @param reference names the repository, and the image in errors */
export async function openRegistryClient(
  host: RegistryHost,
  reference: Reference,
  auth: RegistryAuth | undefined,
  patience: Patience,
): Promise<RegistryClient> {
  const http = await openHttpClient(host, patience);
  const origin = new URL(host.baseUrl);
  const name = formatName(reference);
  const authorizer = new Authorizer({
    http,
    origin,
    repository: reference.repository,
    auth: auth !== undefined && authIsFor(auth, origin.host) ? auth : undefined,
  });
  let blobs = 0;
  let closed = false;
  const closeIfDone = async (): Promise<void> => {
    if (closed && blobs === 0) await http.close();
  };

  const urlOf = (kind: "manifests" | "blobs", what: string): string => {
    const namespace = host.mirrorOf === undefined ? "" : `?ns=${encodeURIComponent(host.mirrorOf)}`;
    return `${host.baseUrl}/${reference.repository}/${kind}/${what}${namespace}`;
  };

  const get = async (
    url: string,
    wanted: Record<string, string>,
    what: string,
    signal: AbortSignal,
  ): Promise<HttpResponse> => {
    for (let renewals = 0; ; renewals++) {
      const { header } = authorizer;
      const headers = { ...host.headers, ...wanted, ...(header !== undefined && { authorization: header }) };
      const response = await http.request({ url, headers, signal });
      if (response.status === 200 || (partStatuses.includes(response.status) && wanted.range !== undefined))
        return response;
      // what another server wants to be shown is none of its business
      if (response.status !== 401 || response.elsewhere || renewals === maxRenewals)
        throw await failureOf(response, what);
      try {
        await authorizer.renew(response, header, what, signal);
      } finally {
        response.body.destroy();
      }
      if (authorizer.header === header && !signal.aborted) {
        throw new PermissionDeniedError(`${origin.host} denies ${what} (HTTP 401)`);
      }
    }
  };

  /** A layer that its maker may not hand on can be had where the descriptor says. Nobody there is shown credentials. */
  const getFrom = async (urls: readonly string[], range: Record<string, string>, what: string, signal: AbortSignal) => {
    let failure: unknown;
    for (const url of urls.slice(0, maxForeignUrls)) {
      const isAllowed = URL.canParse(url) && ["https:", origin.protocol].includes(new URL(url).protocol);
      if (!isAllowed) continue;
      try {
        const response = await http.request({ url, headers: { accept: blobTypes, ...range }, signal });
        if (response.status === 200 || (partStatuses.includes(response.status) && range.range !== undefined))
          return response;
        failure = await failureOf({ ...response, elsewhere: true }, what);
      } catch (error) {
        failure = error;
      }
      if (signal.aborted) break;
    }
    throw failure ?? new NotFoundError(`${what} is not on ${origin.host}, and no address of another server is https`);
  };

  return {
    manifest: (version, size, signal) =>
      retried(patience, signal, async () => {
        const what = digestPattern.test(version) ? `${name}@${version}` : formatReference(reference);
        const response = await get(urlOf("manifests", version), { accept: manifestTypes.join(", ") }, what, signal);
        const bytes = await readBody(response, maxManifestBytes, `the manifest of ${what}`);
        const digest = digestOf(bytes, digestPattern.test(version) ? algorithmOf(version) : "sha256");
        if (digestPattern.test(version) && digest !== version) {
          throw new InternalError(`${origin.host} sent another manifest for ${what}: its digest is ${digest}`);
        }
        if (size !== undefined && bytes.length !== size) {
          throw new InternalError(`the manifest ${what} has ${bytes.length} bytes, its descriptor says ${size}`);
        }
        return { bytes, digest, contentType: [response.headers["content-type"] ?? ""].flat()[0] ?? "" };
      }),
    async *blob(descriptor, signal) {
      if (closed) throw new CancelledError(`the pull of ${formatReference(reference)} has ended`);
      const { digest, size, urls = [] } = descriptor;
      const what = `blob ${digest} of ${name}`;
      const open = async (from: number): Promise<HttpResponse> => {
        const range: Record<string, string> = from === 0 ? {} : { range: `bytes=${from}-` };
        try {
          return await get(urlOf("blobs", digest), { accept: blobTypes, ...range }, what, signal);
        } catch (error) {
          if (urls.length === 0 || !(error instanceof NotFoundError)) throw error;
          return getFrom(urls, range, what, signal);
        }
      };
      blobs += 1;
      try {
        yield* verified(downloadBlob({ what, size, patience, signal, open }), descriptor);
      } finally {
        blobs -= 1;
        await closeIfDone();
      }
    },
    close() {
      closed = true;
      return closeIfDone();
    },
  };
}
