/** Certificates for tests, made by openssl: an authority, servers and clients that it vouches for. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export interface KeyPair {
  /** paths of PEM files */
  certificate: string;
  key: string;
}

export interface TestAuthority {
  directory: string;
  /** path of its PEM file */
  certificate: string;
  /** @param names "DNS:localhost", "IP:127.0.0.1" */
  server(...names: string[]): Promise<KeyPair>;
  client(name: string): Promise<KeyPair>;
  remove(): Promise<void>;
}

const openssl = (...args: string[]) => promisify(execFile)("openssl", args);
const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

export async function makeAuthority(): Promise<TestAuthority> {
  const directory = await mkdtemp(join(tmpdir(), "berth-ca-"));
  const own = { certificate: join(directory, "ca.pem"), key: join(directory, "ca.key") };
  await openssl(
    ...["req", "-x509", ...newKey, "-days", "2", "-subj", "/CN=Berth test authority"],
    ...["-keyout", own.key, "-out", own.certificate],
  );
  let made = 0;
  const issue = async (subject: string, extensions: string): Promise<KeyPair> => {
    const base = join(directory, `${made++}`);
    const pair = { certificate: `${base}.cert`, key: `${base}.key` };
    await writeFile(`${base}.ext`, extensions);
    await openssl("req", ...newKey, "-subj", `/CN=${subject}`, "-keyout", pair.key, "-out", `${base}.csr`);
    await openssl(
      ...["x509", "-req", "-days", "2", "-in", `${base}.csr`, "-CA", own.certificate, "-CAkey", own.key],
      ...["-set_serial", `${Date.now()}${made}`, "-extfile", `${base}.ext`, "-out", pair.certificate],
    );
    return pair;
  };
  return {
    directory,
    certificate: own.certificate,
    server: (...names) => issue("server", `subjectAltName=${names.join(",")}\nextendedKeyUsage=serverAuth\n`),
    client: (name) => issue(name, "extendedKeyUsage=clientAuth\n"),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
