import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { isLoopback, openRegistries, type Registries } from "./registries.js";

describe("registries", () => {
  let directory: string;
  let registries: Registries;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-hosts-"));
    registries = openRegistries(directory);
  });
  after(() => rm(directory, { recursive: true, force: true }));

  const write = async (name: string, text: string): Promise<void> => {
    await mkdir(join(directory, name), { recursive: true });
    await writeFile(join(directory, name, "hosts.toml"), text);
  };
  const urls = async (registry: string): Promise<string[]> =>
    (await registries.hostsOf(registry)).map((host) => host.baseUrl);

  it("without a file are asked themselves: https, and http on loopback", async () => {
    assert.deepEqual(await urls("docker.io"), ["https://registry-1.docker.io/v2"]);
    assert.deepEqual(await urls("r.example:8443"), ["https://r.example:8443/v2"]);
    assert.deepEqual(await urls("127.0.0.1:5000"), ["http://127.0.0.1:5000/v2"]);
    assert.deepEqual(await urls("[::1]:5000"), ["http://[::1]:5000/v2"]);
    assert.deepEqual(
      await openRegistries(undefined)
        .hostsOf("a.example")
        .then((hosts) => hosts.length),
      1,
    );
  });

  it("are asked as their file says, in its order, themselves last", async () => {
    await writeFile(join(directory, "ca.pem"), "PEM");
    await write(
      "docker.io",
      `
server = "https://registry-1.docker.io"
[host."https://mirror.example"]
  capabilities = ["pull"]
  ca = "../ca.pem"
[host."http://10.0.0.1:5000/prefix"]
  skip_verify = true
  override_path = true
[host."plain.example"]
`,
    );
    const hosts = await registries.hostsOf("docker.io");
    assert.deepEqual(
      hosts.map((host) => host.baseUrl),
      [
        "https://mirror.example/v2",
        "http://10.0.0.1:5000/prefix",
        "https://plain.example/v2",
        "https://registry-1.docker.io/v2",
      ],
    );
    assert.deepEqual(
      hosts.map((host) => [host.resolves, host.pulls, host.skipVerify, host.mirrorOf]),
      [
        [false, true, false, "docker.io"],
        [true, true, true, "docker.io"],
        [true, true, false, "docker.io"],
        [true, true, false, undefined],
      ],
    );
    assert.deepEqual(hosts[0]?.ca, ["PEM"]);
  });

  it("fall back to _default and to names without a colon", async () => {
    await write("_default", '[host."https://all.example"]\n');
    await write("r.example_5000_", 'server = "http://r.example:5000"\n');
    assert.deepEqual(await urls("quay.io"), ["https://all.example/v2", "https://quay.io/v2"]);
    assert.deepEqual(await urls("r.example:5000"), ["http://r.example:5000/v2"]);
  });

  it("name the file that cannot be used", async () => {
    for (const text of [
      "not toml =",
      "server = 1",
      "host = 1",
      '[host."ftp://x"]',
      '[host."https://x"]\nca = "gone"',
    ]) {
      await write("bad.example", text);
      await assert.rejects(registries.hostsOf("bad.example"), (error: Error) => {
        assert.ok(error instanceof InvalidArgumentError);
        assert.match(error.message, /bad\.example\/hosts\.toml/);
        return true;
      });
    }
  });

  it("know loopback", () => {
    for (const host of ["localhost", "localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:5000"])
      assert.ok(isLoopback(host));
    for (const host of ["127.0.0.1.example", "localhost.example", "10.0.0.1", "[::2]"]) assert.ok(!isLoopback(host));
  });
});
