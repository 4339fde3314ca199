import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { openRegistries, type Registries } from "../../agent/images/registries.js";
import { isLoopback } from "../../agent/images/registry-host.js";
import { FailedPreconditionError } from "../../sandbox/errors.js";
import { type KeyPair, makeAuthority, type TestAuthority } from "../support/certificates.js";

describe("registries", () => {
  let directory: string;
  let registries: Registries;
  let authority: TestAuthority;
  let client: KeyPair;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-hosts-"));
    registries = openRegistries([join(directory, "absent"), directory]);
    authority = await makeAuthority();
    client = await authority.client("me");
  });
  after(async () => {
    await rm(directory, { recursive: true, force: true });
    await authority.remove();
  });

  const write = async (name: string, text: string): Promise<void> => {
    await mkdir(join(directory, name), { recursive: true });
    await writeFile(join(directory, name, "hosts.toml"), text);
  };
  const urls = async (registry: string): Promise<string[]> =>
    (await registries.hostsOf(registry)).map((host) => host.baseUrl);

  it("without a file are asked themselves: by https, unless they are on this machine", async () => {
    assert.deepEqual(await urls("docker.io"), ["https://registry-1.docker.io/v2"]);
    assert.deepEqual(await urls("r.example:8443"), ["https://r.example:8443/v2"]);
    assert.deepEqual(await urls("[2001:db8::1]:5000"), ["https://[2001:db8::1]:5000/v2"]);
    for (const [registry, baseUrl, triesTls] of [
      ["127.0.0.1:5000", "http://127.0.0.1:5000/v2", true],
      ["[::1]:5000", "http://[::1]:5000/v2", true],
      ["localhost:80", "http://localhost:80/v2", false],
      ["localhost:443", "https://localhost:443/v2", false],
      ["localhost", "https://localhost/v2", false],
      ["[::1]", "https://[::1]/v2", false],
    ] as const) {
      const [host] = await registries.hostsOf(registry);
      assert.deepEqual([host?.baseUrl, host?.triesTls, host?.skipVerify], [baseUrl, triesTls, true], registry);
    }
    const [remote] = await openRegistries().hostsOf("a.example");
    assert.deepEqual([remote?.triesTls, remote?.skipVerify], [false, false]);
  });

  it("are asked once when they are listed among their hosts, too", async () => {
    const own = 'server = "https://listed.example"\n[host."https://m.example"]\n[host."https://listed.example"]\n';
    const [mirror, itself] = ["https://m.example/v2", "https://listed.example/v2"];
    await write("listed.example", own);
    assert.deepEqual(await urls("listed.example"), [mirror, itself]);
    await write("listed.example", own.slice(own.indexOf("\n") + 1));
    assert.deepEqual(await urls("listed.example"), [mirror, itself]);
    // what a host may not be asked, or how it is reached, may be otherwise at the end
    await write("listed.example", `${own}capabilities = ["pull"]\n`);
    assert.deepEqual(await urls("listed.example"), [mirror, itself, itself]);
    await write("listed.example", `skip_verify = true\n${own}`);
    assert.deepEqual(await urls("listed.example"), [mirror, itself, itself]);
  });

  it("are asked as their file says, in its order, themselves last", async () => {
    await copyFile(authority.certificate, join(directory, "ca.pem"));
    await write(
      "docker.io",
      `
server = "https://registry-1.docker.io"
[host."https://mirror.example"]
  capabilities = ["Pull"]
  ca = "../ca.pem"
  dial_timeout = "1m1.5s"
  unknown = "is for a later version"
[host."http://10.0.0.1:5000/prefix"]
  skip_verify = true
  override_path = true
[host."plain.example"]
  capabilities = ["resolve", "push"]
[host."http://clear.example/a/"]
  [host."http://clear.example/a/".header]
    X-One = "1"
    x-two = ["2", "3"]
`,
    );
    const hosts = await registries.hostsOf("docker.io");
    assert.deepEqual(
      hosts.map((host) => [host.baseUrl, host.resolves, host.pulls, host.skipVerify, host.triesTls, host.mirrorOf]),
      [
        ["https://mirror.example/v2", false, true, false, false, "docker.io"],
        ["http://10.0.0.1:5000/prefix", true, true, true, true, "docker.io"],
        ["https://plain.example/v2", true, false, false, false, "docker.io"],
        ["http://clear.example/a/v2", true, true, false, false, "docker.io"],
        ["https://registry-1.docker.io/v2", true, true, false, false, undefined],
      ],
    );
    assert.deepEqual(hosts[0]?.ca, [await readFile(authority.certificate, "utf8")]);
    assert.equal(hosts[0]?.dialTimeoutMs, 61_500);
    assert.deepEqual(hosts[3]?.headers, { "x-one": "1", "x-two": "2, 3" });
  });

  it("fall back to _default, and have names without a colon", async () => {
    await write("_default", '[host."https://all.example"]\n');
    await write("r.example_5000_", 'server = "http://r.example:5000"\n');
    await write("r.example:5000", 'server = "http://later.example"\n');
    await write("empty.example", "");
    assert.deepEqual(await urls("quay.io"), ["https://all.example/v2", "https://quay.io/v2"]);
    assert.deepEqual(await urls("r.example:5000"), ["http://r.example:5000/v2"]);
    assert.deepEqual(await urls("empty.example"), ["https://empty.example/v2"]);
    await rm(join(directory, "_default"), { recursive: true });
    assert.deepEqual(await urls("quay.io"), ["https://quay.io/v2"]);
  });

  it("have settings of their own at the top of the file, which may name nobody else", async () => {
    await write("own.example", `skip_verify = true\ncapabilities = ["pull"]\n[host."https://m.example"]\n`);
    const [mirror, own] = await registries.hostsOf("own.example");
    assert.equal(mirror?.skipVerify, false);
    assert.deepEqual([own?.baseUrl, own?.skipVerify, own?.resolves], ["https://own.example/v2", true, true]);
    await write("own.example", 'server = "https://m.example"\ncapabilities = ["pull"]\n');
    const [only] = await registries.hostsOf("own.example");
    assert.deepEqual([only?.resolves, only?.mirrorOf], [false, "own.example"]);
  });

  it("take a client's certificate in every form", async () => {
    await writeFile(
      join(directory, "both.pem"),
      `${await readFile(client.certificate, "utf8")}${await readFile(client.key, "utf8")}`,
    );
    const key = (await readFile(client.key, "utf8")).trim();
    for (const [text, count] of [
      ['"../both.pem"', 1],
      ['["../both.pem", "../both.pem"]', 2],
      [`[["${client.certificate}", "${client.key}"]]`, 1],
      ['[["../both.pem", ""]]', 1],
    ] as const) {
      await write("tls.example", `client = ${text}\n`);
      const [host] = await registries.hostsOf("tls.example");
      assert.equal(host?.clients.length, count, text);
      assert.ok(host?.clients[0]?.key.includes(key));
    }
  });

  it("take certificates as Docker lays them out, where there is no hosts.toml", async () => {
    const own = join(directory, "docker.example");
    await mkdir(own);
    await copyFile(authority.certificate, join(own, "ca.crt"));
    await copyFile(client.certificate, join(own, "client.cert"));
    await copyFile(client.key, join(own, "client.key"));
    const [host] = await registries.hostsOf("docker.example");
    assert.deepEqual([host?.ca.length, host?.clients.length], [1, 1]);
    await rm(join(own, "client.key"));
    await assert.rejects(registries.hostsOf("docker.example"), /client\.key/);
  });

  it("name the file and the line that cannot be used", async () => {
    const mirror = '\n[host."https://x"]\n';
    for (const [text, line, why] of [
      ["not toml =", 1, /.*/],
      ['a = "1"\n\nb = "unclosed\n', 3, /.*/],
      ["server = 1", 1, /server is no string/],
      ["host = 1", 1, /host is no table/],
      ['[host."ftp://x"]', 1, /"ftp:\/\/x" is neither/],
      ['server = "https://a:b@x"', 1, /no user name/],
      [`${mirror}  ca = "gone"`, 3, /gone/],
      [`${mirror}  ca = "hosts.toml"`, 3, /holds no certificate/],
      [`${mirror}  ca = [1]`, 3, /neither a string/],
      [`${mirror}  # ca\n  capabilities = ["pull", "fly"]`, 4, /"fly" is not pull/],
      [`${mirror}  skip_verify = "yes"`, 3, /neither true nor false/],
      [`${mirror}  dial_timeout = "3"`, 3, /no duration/],
      [`${mirror}  dial_timeout = 3`, 3, /no duration/],
      [`${mirror}  client = [["a", "b", "c"]]`, 3, /no list of pairs/],
      [`${mirror}  client = "hosts.toml"`, 3, /no certificate and its key/],
      [`${mirror}[host."https://x".header]\n  good = "1"\n  "a b" = "2"`, 5, /"a b" is no header/],
      [`${mirror}[host."https://x".header]\n  a = """x\n y"""`, 4, /"a" is no header/],
    ] as const) {
      await write("bad.example", text);
      await assert.rejects(registries.hostsOf("bad.example"), (error: Error) => {
        assert.ok(error instanceof FailedPreconditionError);
        assert.ok(error.message.includes(`bad.example/hosts.toml:${line}:`), `${error.message}\n${text}`);
        assert.match(error.message, why);
        return true;
      });
    }
  });

  it("whose file is none are refused, and not waited for", async () => {
    await mkdir(join(directory, "fifo.example"));
    execFileSync("mkfifo", [join(directory, "fifo.example", "hosts.toml")]);
    await assert.rejects(registries.hostsOf("fifo.example"), /hosts\.toml is no regular file/);
  });

  it("know loopback", () => {
    for (const host of ["localhost", "localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:5000"])
      assert.ok(isLoopback(host));
    for (const host of ["127.0.0.1.example", "localhost.example", "10.0.0.1", "[::2]"]) assert.ok(!isLoopback(host));
  });
});
