/**
 * Who may read /metrics, and how: the file that Prometheus' exporters call the web configuration, with TLS, clients'
 * certificates and names with passwords. It is read again when it, or a file that it names, has changed.
 */
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { dirname, resolve } from "node:path";
import type { SecureContextOptions, TlsOptions } from "node:tls";
import * as v from "valibot";
import { parse } from "yaml";
import { native } from "../native/binding.js";
import { FailedPreconditionError, InvalidArgumentError, messageOf } from "../sandbox/errors.js";
import { readSmallFileSync } from "../sandbox/small-files.js";
import { checked, stampOf } from "./renewed-certificates.js";

const clientAuthTypes = [
  "NoClientCert",
  "RequestClientCert",
  "RequireAnyClientCert",
  "VerifyClientCertIfGiven",
  "RequireAndVerifyClientCert",
] as const;

const versions = { TLS12: "TLSv1.2", TLS13: "TLSv1.3" } as const;

const schema = v.strictObject({
  tls_server_config: v.optional(
    v.strictObject({
      cert_file: v.string(),
      key_file: v.string(),
      client_auth_type: v.optional(v.picklist(clientAuthTypes), "NoClientCert"),
      client_ca_file: v.optional(v.string()),
      min_version: v.optional(v.picklist(["TLS12", "TLS13"]), "TLS12"),
      max_version: v.optional(v.picklist(["TLS12", "TLS13"]), "TLS13"),
    }),
  ),
  basic_auth_users: v.optional(
    v.record(v.string(), v.pipe(v.string(), v.regex(/^\$2[aby]\$\d\d\$.{53}$/, "is not a bcrypt hash"))),
  ),
});

type Content = v.InferOutput<typeof schema>;

export interface WebConfig {
  readonly path: string;
  /** null: plain HTTP. Whether there is TLS is decided at the start; its files may change */
  readonly tls: TlsOptions | null;
  /** itself, and what it names */
  files(): readonly string[];
  /** the certificates as they are now. @throws what cannot be read, or used */
  certificates(): SecureContextOptions;
  /** false: the request has no name and password of the file's */
  admits(request: IncomingMessage): Promise<boolean>;
}

/** InvalidArgumentError: what is wrong with the file; FailedPreconditionError: it, or one that it names, cannot be read. */
export function openWebConfig(path: string): WebConfig {
  let content = readContent(path);
  let stamp = stampOf(filesOf(path, content));
  let accepted = new Set<string>();
  const tls = tlsOptions(path, content);
  /** What cannot be read stands as it was. */
  const refresh = (): void => {
    const now = stampOf(filesOf(path, content));
    if (now === stamp) return;
    stamp = now;
    try {
      content = readContent(path);
      stamp = stampOf(filesOf(path, content));
      accepted = new Set();
    } catch {
      // it is read again when it is another
    }
  };
  return {
    path,
    tls,
    files: () => filesOf(path, content),
    certificates() {
      content = readContent(path);
      const now = tlsOptions(path, content);
      if (now === null)
        throw new InvalidArgumentError(`--metrics-web-config ${path}: TLS can be given up at a start alone`);
      return now;
    },
    async admits({ headers }) {
      refresh();
      const users = content.basic_auth_users ?? {};
      if (Object.keys(users).length === 0) return true;
      const [scheme, encoded = ""] = (headers.authorization ?? "").split(" ");
      if (scheme?.toLowerCase() !== "basic") return false;
      const [name = "", ...rest] = Buffer.from(encoded, "base64").toString().split(":");
      const hash = Object.hasOwn(users, name) ? (users[name] as string) : nobody;
      const password = rest.join(":");
      // each check takes as long as the hash's maker wanted: once for each scraper is enough
      const key = createHash("sha256").update(`${hash}\0${password}`).digest("hex");
      if (accepted.has(key)) return true;
      const fits = (await native.checkPassword(password, hash)) && hash !== nobody;
      if (fits) accepted.add(key);
      return fits;
    },
  };
}

/** Checked for names that are none, so that nobody learns from the time which are: of no password. */
const nobody = "$2b$10$P3KlJqrtf6CvhiRR6Rzjnubhm4T3Z89mN.WvBGYcJ3CjELqJMSwkO";

function readContent(path: string): Content {
  let text: string;
  try {
    text = readSmallFileSync(path);
  } catch (error) {
    throw new FailedPreconditionError(`--metrics-web-config: ${messageOf(error)}`, { cause: error });
  }
  try {
    return v.parse(schema, parse(text) ?? {});
  } catch (error) {
    const where = error instanceof v.ValiError ? `${v.getDotPath(error.issues[0]) ?? "it"}: ` : "";
    throw new InvalidArgumentError(`--metrics-web-config ${path}: ${where}${messageOf(error)}`, { cause: error });
  }
}

function filesOf(path: string, content: Content): string[] {
  return [path, ...Object.values(certificatesOf(path, content) ?? {})].filter((file) => file !== "");
}

function certificatesOf(
  path: string,
  { tls_server_config: tls }: Content,
): { cert: string; key: string; ca: string } | null {
  if (tls === undefined) return null;
  // as in Prometheus, from the directory of the file
  const at = (file: string | undefined) => (file === undefined ? "" : resolve(dirname(path), file));
  return { cert: at(tls.cert_file), key: at(tls.key_file), ca: at(tls.client_ca_file) };
}

function tlsOptions(path: string, content: Content): TlsOptions | null {
  const { tls_server_config: tls } = content;
  const files = certificatesOf(path, content);
  if (tls === undefined || files === null) return null;
  const verifies =
    tls.client_auth_type === "RequireAndVerifyClientCert" || tls.client_auth_type === "VerifyClientCertIfGiven";
  if (verifies && files.ca === "") {
    throw new InvalidArgumentError(`--metrics-web-config ${path}: ${tls.client_auth_type} needs client_ca_file`);
  }
  if (tls.client_auth_type === "VerifyClientCertIfGiven" || tls.client_auth_type === "RequireAnyClientCert") {
    throw new InvalidArgumentError(
      `--metrics-web-config ${path}: client_auth_type ${tls.client_auth_type} is not supported`,
    );
  }
  try {
    return checked({
      cert: readSmallFileSync(files.cert),
      key: readSmallFileSync(files.key),
      ...(files.ca !== "" && { ca: readSmallFileSync(files.ca) }),
      requestCert: tls.client_auth_type !== "NoClientCert",
      rejectUnauthorized: verifies,
      minVersion: versions[tls.min_version],
      maxVersion: versions[tls.max_version],
    });
  } catch (error) {
    throw new FailedPreconditionError(`--metrics-web-config ${path}: ${messageOf(error)}`, { cause: error });
  }
}
