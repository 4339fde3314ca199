/** Builds images from entries and from Debian's own programs, without any other tool, and hands them out. */
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { type TarEntry, writeTar } from "./tar-writer.js";

export interface BuiltBlob {
  mediaType: string;
  digest: string;
  bytes: Buffer;
}

export interface BuiltImage {
  configuration: BuiltBlob;
  layers: BuiltBlob[];
  /** the uncompressed layers */
  tars: Buffer[];
  manifest: BuiltBlob;
  /** what berth calls the image: the configuration's digest */
  id: string;
}

/** "config" of the OCI image configuration; fields that are left out are not written. */
export interface BuiltConfig {
  User?: string;
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  WorkingDir?: string;
  Volumes?: Record<string, object>;
  Labels?: Record<string, string>;
  StopSignal?: string;
  ExposedPorts?: Record<string, object>;
}

export interface BuildOptions {
  /** bottom first; a Buffer is a tar of one's own */
  layers: (TarEntry[] | Buffer)[];
  config?: BuiltConfig;
  /** default: this machine's, in the OCI's words */
  architecture?: string;
  /** default: none */
  variant?: string;
  compression?: "gzip" | "none";
  format?: "oci" | "docker";
  /** of the manifest */
  annotations?: Record<string, string>;
  /** overwrites what the configuration promises, for tests of lies */
  diffIds?: string[];
}

export const hostArchitecture = process.arch === "x64" ? "amd64" : process.arch;

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export function buildImage(options: BuildOptions): BuiltImage {
  const oci = options.format !== "docker";
  const compressed = options.compression !== "none";
  const tars = options.layers.map((layer) => (Buffer.isBuffer(layer) ? layer : writeTar(layer)));
  const layerType = oci
    ? `application/vnd.oci.image.layer.v1.tar${compressed ? "+gzip" : ""}`
    : `application/vnd.docker.image.rootfs.diff.tar${compressed ? ".gzip" : ""}`;
  const layers = tars.map((tar) => blob(layerType, compressed ? gzipSync(tar, { level: 1 }) : tar));
  const configuration = blob(
    oci ? "application/vnd.oci.image.config.v1+json" : "application/vnd.docker.container.image.v1+json",
    json({
      architecture: options.architecture ?? hostArchitecture,
      ...(options.variant && { variant: options.variant }),
      os: "linux",
      created: "2026-11-01T00:00:00Z",
      config: options.config ?? {},
      rootfs: { type: "layers", diff_ids: options.diffIds ?? tars.map(digestOf) },
    }),
  );
  const manifestType = oci
    ? "application/vnd.oci.image.manifest.v1+json"
    : "application/vnd.docker.distribution.manifest.v2+json";
  const manifest = blob(
    manifestType,
    json({
      schemaVersion: 2,
      mediaType: manifestType,
      config: descriptor(configuration),
      layers: layers.map(descriptor),
      ...(options.annotations && { annotations: options.annotations }),
    }),
  );
  return { configuration, layers, tars, manifest, id: configuration.digest };
}

export interface BusyboxOptions {
  config?: BuiltConfig;
  /** one more layer each, on top */
  layers?: TarEntry[][];
  compression?: "gzip" | "none";
  format?: "oci" | "docker";
}

/** Names that the busybox image has in /bin, besides "busybox" itself. */
const applets =
  "sh ls cat echo sleep true false id ps env pwd touch mkdir rm mv cp ln chmod chown head tail grep sed awk dd df du " +
  "find hostname ip ifconfig ping nc wget httpd kill killall mount umount mknod stat sync tee test [ time top tr uname " +
  "wc which whoami yes seq sort uniq date expr printf readlink sysctl nslookup dmesg free ulimit timeout usleep md5sum " +
  "sha256sum od hexdump stty tty less vi su unshare nsenter chroot";

/**
 * An image of Debian's static busybox: /bin, /etc with root, daemon, nobody and a user "app" (1000:1000, also in group
 * "extra"), /tmp, /proc, /sys, /dev, /root, /home/app. Cmd is sh.
 */
export async function buildBusyboxImage(options: BusyboxOptions = {}): Promise<BuiltImage> {
  const busybox = await readFile("/bin/busybox");
  const links = applets
    .split(" ")
    .map((name): TarEntry => ({ path: `bin/${name}`, type: "hardlink", link: "bin/busybox", mode: 0o755 }));
  const directories = ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "var", "var/www"];
  const base: TarEntry[] = [
    { path: "./", type: "directory" },
    ...directories.map((path): TarEntry => ({ path: `${path}/`, type: "directory" })),
    { path: "tmp/", type: "directory", mode: 0o1777 },
    { path: "home/app/", type: "directory", uid: 1000, gid: 1000 },
    { path: "bin/busybox", mode: 0o755, content: busybox },
    ...links,
    { path: "usr/bin", type: "symlink", link: "../bin" },
  ];
  const accounts: TarEntry[] = [
    {
      path: "etc/passwd",
      content:
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\napp:x:1000:1000::/home/app:/bin/sh\n" +
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    },
    { path: "etc/group", content: "root:x:0:\ndaemon:x:1:\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n" },
    { path: "etc/os-release", content: 'ID=berth-test\nPRETTY_NAME="Berth test image"\n' },
  ];
  return buildImage({
    layers: [base, accounts, ...(options.layers ?? [])],
    config: { Env: ["PATH=/bin:/usr/bin"], Cmd: ["sh"], ...options.config },
    ...(options.compression !== undefined && { compression: options.compression }),
    ...(options.format !== undefined && { format: options.format }),
  });
}

/** An index of images by platform: [platform, image]. */
export function buildIndex(entries: [platform: Record<string, string>, image: BuiltImage][]): BuiltBlob {
  const mediaType = "application/vnd.oci.image.index.v1+json";
  const manifests = entries.map(([platform, image]) => ({ ...descriptor(image.manifest), platform }));
  return blob(mediaType, json({ schemaVersion: 2, mediaType, manifests }));
}

/**
 * Pushes an image to a registry ("http://127.0.0.1:5000").
 * @returns the manifest's digest
 */
export async function pushImage(
  registryUrl: string,
  repository: string,
  tag: string,
  image: BuiltImage,
  headers: Record<string, string> = {},
): Promise<string> {
  for (const part of [image.configuration, ...image.layers]) await pushBlob(registryUrl, repository, part, headers);
  return pushManifest(registryUrl, repository, tag, image.manifest, headers);
}

/** @param version a tag or the manifest's digest */
export async function pushManifest(
  registryUrl: string,
  repository: string,
  version: string,
  manifest: BuiltBlob,
  headers: Record<string, string> = {},
): Promise<string> {
  const response = await fetch(`${registryUrl}/v2/${repository}/manifests/${version}`, {
    method: "PUT",
    headers: { ...headers, "content-type": manifest.mediaType },
    body: new Uint8Array(manifest.bytes),
  });
  await expectStatus(response, 201, `manifest ${version}`);
  return manifest.digest;
}

async function pushBlob(
  url: string,
  repository: string,
  part: BuiltBlob,
  headers: Record<string, string>,
): Promise<void> {
  const start = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: "POST", headers });
  await expectStatus(start, 202, "the start of an upload");
  const location = new URL(start.headers.get("location") ?? "", url);
  location.searchParams.set("digest", part.digest);
  const put = await fetch(location, {
    method: "PUT",
    headers: { ...headers, "content-type": "application/octet-stream" },
    body: new Uint8Array(part.bytes),
  });
  await expectStatus(put, 201, `blob ${part.digest}`);
}

async function expectStatus(response: Response, status: number, what: string): Promise<void> {
  const text = await response.text();
  if (response.status !== status) throw new Error(`pushing ${what}: HTTP ${response.status} ${text.slice(0, 500)}`);
}

/** Writes an OCI layout directory; the name becomes the annotation that importers read. */
export async function writeOciLayout(directory: string, image: BuiltImage, name?: string): Promise<void> {
  await mkdir(join(directory, "blobs", "sha256"), { recursive: true });
  for (const part of [image.configuration, image.manifest, ...image.layers]) {
    await writeFile(join(directory, "blobs", "sha256", part.digest.slice("sha256:".length)), part.bytes);
  }
  for (const entry of layoutFiles(image, name)) await writeFile(join(directory, entry.path), entry.content ?? "");
}

/** An OCI layout as a tar (oci-archive). */
export function ociArchive(image: BuiltImage, name?: string): Buffer {
  const parts = [image.configuration, image.manifest, ...image.layers];
  return writeTar([
    ...layoutFiles(image, name),
    ...parts.map(
      (part): TarEntry => ({ path: `blobs/sha256/${part.digest.slice("sha256:".length)}`, content: part.bytes }),
    ),
  ]);
}

/** What `docker save` wrote for years: manifest.json, the configuration, uncompressed layers. */
export function dockerArchive(image: BuiltImage, tags: string[]): Buffer {
  const layers = image.tars.map((tar, index) => ({ path: `${index}-layer/layer.tar`, content: tar }));
  const config = `${image.id.slice("sha256:".length)}.json`;
  const manifest = [{ Config: config, RepoTags: tags, Layers: layers.map((layer) => layer.path) }];
  return writeTar([
    ...layers,
    { path: config, content: image.configuration.bytes },
    { path: "manifest.json", content: json(manifest) },
  ]);
}

function layoutFiles(image: BuiltImage, name: string | undefined): TarEntry[] {
  const annotations = name === undefined ? {} : { annotations: { "org.opencontainers.image.ref.name": name } };
  const index = { schemaVersion: 2, manifests: [{ ...descriptor(image.manifest), ...annotations }] };
  return [
    { path: "oci-layout", content: json({ imageLayoutVersion: "1.0.0" }) },
    { path: "index.json", content: json(index) },
  ];
}

function blob(mediaType: string, bytes: Buffer): BuiltBlob {
  return { mediaType, digest: digestOf(bytes), bytes };
}

function descriptor(part: BuiltBlob): { mediaType: string; digest: string; size: number } {
  return { mediaType: part.mediaType, digest: part.digest, size: part.bytes.length };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
