/** Whom TLS trusts: what this machine trusts, as its administrator keeps it, and what the settings of a registry add. */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { setImmediate as yieldToOthers } from "node:timers/promises";
import { createSecureContext, rootCertificates, type SecureContext } from "node:tls";
import type { RegistryHost } from "./registry-host.js";

/** Where distributions keep the bundle: Debian, Fedora, openSUSE, older RHEL, RHEL 7, Alpine. */
const bundles = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

interface SystemTrust {
  /** names the file's state */
  version: string;
  certificates: readonly string[];
}

let system: SystemTrust | undefined;
/** A context holds more than a hundred parsed certificates: they are shared. */
const contexts = new Map<string, Promise<SecureContext>>();
const maxContexts = 16;
const certificatesAtOnce = 10;
const certificatePattern = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;

/** Without verification no authority is loaded. */
export async function secureContextOf(
  host: Pick<RegistryHost, "skipVerify" | "ca" | "clients">,
): Promise<SecureContext> {
  const trusted = host.skipVerify ? { version: "none", certificates: [] } : await systemTrust();
  const parts = JSON.stringify([trusted.version, host.skipVerify ? [] : host.ca, host.clients]);
  const key = createHash("sha256").update(parts).digest("hex");
  const known = contexts.get(key);
  if (known !== undefined) return known;
  if (contexts.size >= maxContexts) contexts.clear();
  const made = makeContext(host, host.skipVerify ? [] : [...trusted.certificates, ...host.ca]);
  contexts.set(key, made);
  return made;
}

async function makeContext(
  host: Pick<RegistryHost, "clients">,
  authorities: readonly string[],
): Promise<SecureContext> {
  const made = createSecureContext({
    ca: [],
    cert: host.clients.map(({ certificate }) => certificate),
    key: host.clients.map((client) => client.key),
  });
  // all at once they would stop the event loop for a tenth of a second
  const native = made.context as { addCACert(pem: string): void };
  for (const [index, certificate] of authorities.entries()) {
    native.addCACert(certificate);
    if (index % certificatesAtOnce === certificatesAtOnce - 1) await yieldToOthers();
  }
  return made;
}

/** The bundle, read again when it has changed; SSL_CERT_FILE names another. Where there is none: what Node brings along. */
async function systemTrust(): Promise<SystemTrust> {
  const named = process.env.SSL_CERT_FILE;
  for (const path of named ? [named] : bundles) {
    try {
      const { mtimeMs, size, ino } = await stat(path);
      const version = `${path} ${mtimeMs} ${size} ${ino}`;
      if (system?.version !== version) {
        system = { version, certificates: (await readFile(path, "utf8")).match(certificatePattern) ?? [] };
      }
      return system;
    } catch {
      // the next one
    }
  }
  return { version: "node", certificates: rootCertificates };
}
