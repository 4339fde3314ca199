/** Certificates that are renewed while they are served: whoever connects after that meets the new ones. */
import { statSync } from "node:fs";
import { createSecureContext, type SecureContextOptions, type Server } from "node:tls";
import { InvalidArgumentError } from "../sandbox/errors.js";

export interface RenewedCertificates {
  /** all that the options are made of */
  files(): readonly string[];
  /** the content of the files; it may throw */
  options(): SecureContextOptions;
  /** files that are wrong, or halfway exchanged: the certificates before stay. Told once of each state of the files */
  onRefused(error: unknown): void;
}

/** The server has what the files have now. */
export function followCertificates(server: Server, certificates: RenewedCertificates): void {
  let seen = stampOf(certificates.files());
  // before a connection's handshake
  server.prependListener("connection", () => {
    const stamp = stampOf(certificates.files());
    if (stamp === seen) return;
    seen = stamp;
    try {
      server.setSecureContext(checked(certificates.options()));
    } catch (error) {
      certificates.onRefused(error);
    }
  });
}

/** @throws what OpenSSL refuses, of which a server would be left with half; and empty files, which it takes for none */
export function checked<T extends SecureContextOptions>(options: T): T {
  for (const name of ["cert", "key"] as const) {
    if (!options[name]?.length)
      throw new InvalidArgumentError(`the file of the ${name === "cert" ? "certificate" : name} is empty`);
  }
  createSecureContext(options);
  return options;
}

/** What changes when one of the files does. */
export function stampOf(files: readonly string[]): string {
  return files.map(stampOfFile).join(", ");
}

function stampOfFile(file: string): string {
  try {
    const { mtimeMs, ctimeMs, size, ino } = statSync(file);
    return `${mtimeMs} ${ctimeMs} ${size} ${ino}`;
  } catch {
    return "none";
  }
}
