/**
 * Where the API server is, and who we are for it: a kubeconfig, or what a pod has of its service account. Files are read
 * again, so that what was renewed counts without a restart.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { RequestOptions } from "node:https";
import { join } from "node:path";
import { KubeConfig, type User } from "@kubernetes/client-node";
import { messageOf } from "../../sandbox/errors.js";
import type { Said } from "./said.js";

export type CredentialSource =
  | { kubeconfig: string; allowExec: boolean }
  /** a directory with token and ca.crt; and https://HOST:PORT */
  | { serviceAccount: string; server: string };

export interface Access {
  server: URL;
  /** of node:https: authority, certificate, key, agent, headers */
  options: RequestOptions;
}

/** A kubelet renews a pod's token some minutes before its end; a minute of an old one does no harm. */
const rereadMs = 60_000;

export const serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";

export class Credentials {
  #access: { at: number; access: Access } | undefined;

  constructor(
    private readonly source: CredentialSource,
    private readonly said: Said,
  ) {}

  /** @throws Error that names the file, and what is wrong in it */
  async current(): Promise<Access> {
    if (this.#access !== undefined && performance.now() - this.#access.at < rereadMs) return this.#access.access;
    const config = load(this.source);
    const cluster = config.getCurrentCluster();
    const user = config.getCurrentUser();
    const where = "kubeconfig" in this.source ? this.source.kubeconfig : this.source.serviceAccount;
    if (cluster === null || user === null) throw new Error(`${where}: current-context names no cluster and user`);
    const server = URL.canParse(cluster.server) ? new URL(cluster.server) : null;
    // a token that is sent in the clear is everybody's
    if (server?.protocol !== "https:") throw new Error(`${where}: server: ${cluster.server} is not https://HOST:PORT`);
    if ("kubeconfig" in this.source && !this.source.allowExec) refuseExec(user, where);
    const options: RequestOptions = {};
    await config.applyToHTTPSOptions(options);
    this.#tellExpiry(options, user, where);
    const access = { server, options };
    this.#access = { at: performance.now(), access };
    return access;
  }

  /** They were refused, or did not fit: the next request reads them anew. */
  doubt(): void {
    this.#access = undefined;
  }

  /** The server may look at it differently, so that it is tried all the same. */
  #tellExpiry({ cert }: RequestOptions, user: User, where: string): void {
    const ends = [certificateEnd(cert), tokenEnd(user.token)].filter((end) => end !== undefined);
    const end = Math.min(...ends);
    if (end < Date.now()) {
      const sentence = `${where}: the credentials have expired at ${new Date(end).toISOString()}; they are read again`;
      this.said.trouble("expiry", sentence);
    } else this.said.over("expiry", `${where}: the credentials have been renewed`);
  }
}

function load(source: CredentialSource): KubeConfig {
  const config = new KubeConfig();
  if ("kubeconfig" in source) {
    try {
      config.loadFromFile(source.kubeconfig);
    } catch (error) {
      throw new Error(`the kubeconfig ${source.kubeconfig} cannot be read: ${messageOf(error)}`, { cause: error });
    }
    return config;
  }
  const { serviceAccount, server } = source;
  const token = readFileSync(join(serviceAccount, "token"), "utf8").trim();
  config.loadFromClusterAndUser(
    { name: "cluster", server, caFile: join(serviceAccount, "ca.crt"), skipTLSVerify: false },
    { name: "user", token },
  );
  return config;
}

/** Of what runs programs: whoever may write the file would be whoever runs this process. */
function refuseExec({ exec, authProvider }: User, where: string): void {
  if (exec) {
    const { command } = exec as { command?: string };
    throw new Error(`${where}: exec: ${command} would be run for credentials; --allow-exec allows it`);
  }
  if (authProvider) {
    const { name } = authProvider as { name?: string };
    throw new Error(`${where}: auth-provider: ${name} may run programs for credentials; --allow-exec allows it`);
  }
}

function certificateEnd(cert: RequestOptions["cert"]): number | undefined {
  const pem = Array.isArray(cert) ? cert[0] : cert;
  if (pem === undefined) return undefined;
  try {
    return Date.parse(new X509Certificate(pem).validTo);
  } catch (error) {
    throw new Error(`the client certificate cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** Of a JSON web token; others do not tell. */
function tokenEnd(token: string | undefined): number | undefined {
  const claims = token?.split(".")[1];
  if (claims === undefined) return undefined;
  try {
    const { exp } = JSON.parse(Buffer.from(claims, "base64url").toString()) as { exp?: unknown };
    return typeof exp === "number" ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/** Of this process, when it runs in a pod. */
export function inClusterSource(environment: NodeJS.ProcessEnv): CredentialSource {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment;
  if (!host || !port) throw new Error("--in-cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set");
  const server = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return { serviceAccount: environment["BERTH_SERVICE_ACCOUNT"] ?? serviceAccountDirectory, server };
}
