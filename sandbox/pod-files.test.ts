import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { InvalidArgumentError } from "./errors.js";
import { hostnameOf, resolvConf, writePodFiles } from "./pod-files.js";
import { podConfig } from "./spec/spec-fixtures.js";

const hostNetwork = { linux: { security_context: { namespace_options: { network: "NODE" } } } };

function written(config: ReturnType<typeof podConfig>, addresses: string[]): Record<string, string> {
  const directory = mkdtempSync(join(tmpdir(), "berth-pod-files-"));
  const mask = process.umask(0o077);
  try {
    writePodFiles(directory, config, addresses);
    return Object.fromEntries(
      ["resolv.conf", "hostname", "hosts"].map((name) => {
        assert.equal(statSync(join(directory, name)).mode & 0o777, 0o644);
        return [name, readFileSync(join(directory, name), "utf8")];
      }),
    );
  } finally {
    process.umask(mask);
    rmSync(directory, { recursive: true });
  }
}

test("the files of a pod", () => {
  const dns_config = {
    servers: ["10.10.10.10", "fd00::a"],
    searches: ["a.example", "b.example"],
    options: ["ndots:5"],
  };
  const files = written(podConfig({ hostname: "web-0", dns_config }), ["10.88.0.2", "fd00::2"]);
  assert.equal(
    files["resolv.conf"],
    "search a.example b.example\nnameserver 10.10.10.10\nnameserver fd00::a\noptions ndots:5\n",
  );
  assert.equal(files["hostname"], "web-0\n");
  assert.match(files["hosts"] ?? "", /^127\.0\.0\.1\tlocalhost\n/);
  assert.match(files["hosts"] ?? "", /\n10\.88\.0\.2\tweb-0\nfd00::2\tweb-0\n$/);
});

test("without a DNS config, or with an empty one, the host's resolv.conf", () => {
  const ofHost = readFileSync("/etc/resolv.conf", "utf8");
  assert.equal(resolvConf(null), ofHost);
  assert.equal(resolvConf({ servers: [], searches: [], options: [] }), ofHost);
  assert.equal(resolvConf({ options: ["ndots:1"] }), "options ndots:1\n");
});

test("on the host's network a pod has the host's name and hosts", () => {
  const config = podConfig({ hostname: "ignored", ...hostNetwork });
  assert.equal(hostnameOf(config), "");
  const files = written(config, []);
  assert.equal(files["hostname"], `${hostname()}\n`);
  assert.equal(files["hosts"], readFileSync("/etc/hosts", "utf8"));
});

test("nothing of a request adds a line or a setting", () => {
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ servers: ["10.0.0.1\noptions x"] }, /config\.dns_config\.servers\[0\]/],
    [{ servers: ["dns.example"] }, /servers\[0\]: "dns.example" is no IP address/],
    [{ searches: ["a", "b c"] }, /config\.dns_config\.searches\[1\]/],
    [{ options: ["x\n"] }, /config\.dns_config\.options\[0\]/],
    [{ options: [""] }, /options\[0\]/],
  ];
  for (const [dns, message] of bad) {
    assert.throws(() => resolvConf(podConfig({ dns_config: dns }).dns_config), invalid(message));
  }
  for (const name of ["a\nb", "a b", "../x", "-a", "x".repeat(65)]) {
    assert.throws(() => hostnameOf(podConfig({ hostname: name })), invalid(/config\.hostname/), name);
  }
});

function invalid(pattern: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof InvalidArgumentError && pattern.test(error.message);
}
