/** What registries send, and hosts.toml: nearly right documents are read or refused with a sentence, and soon. */
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { digestPattern } from "../../agent/images/digest.js";
import type { HttpClient, HttpResponse } from "../../agent/images/http.js";
import { type Descriptor, parseManifest, rankPlatforms } from "../../agent/images/manifest.js";
import { hostPlatform } from "../../agent/images/platform.js";
import { formatReference, parseReference } from "../../agent/images/reference.js";
import { openRegistries } from "../../agent/images/registries.js";
import { parseChallenges } from "../../agent/images/registry-auth.js";
import { Authorizer } from "../../agent/images/registry-tokens.js";
import { retryAfterMs } from "../../agent/images/transient.js";
import { BerthError } from "../../sandbox/errors.js";
import { parseImageConfig } from "../../sandbox/image-config.js";
import { type Random, randomFrom } from "../../sandbox/spec/random-messages.js";
import { makeAuthority } from "../support/certificates.js";
import { mutate, mutateText, oneOf } from "../support/mutations.js";
import { fuzzSeconds, fuzzSeed, mistake, readCorpus } from "./fuzz-support.js";

/** One document may take so long, on a machine that does something else, too. */
const longestMs = 5_000;

interface Target {
  name: string;
  corpus: string[];
  /** reads it and checks what has come out @throws BerthError when it refuses it */
  read(text: string, random: Random): unknown;
}

const directory = mkdtempSync(join(tmpdir(), "berth-fuzz-"));
mkdirSync(join(directory, "r.example"));
const registries = openRegistries([directory]);

const targets: Target[] = [
  {
    name: "manifest",
    corpus: readCorpus("registry/manifest"),
    read(text, random) {
      const type = oneOf(random, ["", "text/html", "application/vnd.oci.image.index.v1+json", "a;b"]);
      const manifest = parseManifest(Buffer.from(text), type, "x:1");
      if (manifest.kind === "index") {
        manifest.manifests.forEach(checkDescriptor);
        rankPlatforms(manifest.manifests, hostPlatform(), "x:1").forEach(checkDescriptor);
      } else {
        [manifest.config, ...manifest.layers].forEach(checkDescriptor);
        assert.ok(manifest.layers.length <= 500);
        assert.ok(Object.values(manifest.annotations).every((value) => typeof value === "string"));
      }
    },
  },
  {
    name: "configuration",
    corpus: readCorpus("registry/config"),
    read(text) {
      let json: unknown;
      try {
        json = JSON.parse(text);
      } catch {
        return;
      }
      const { config, rootfs, history } = parseImageConfig(json);
      assert.ok(rootfs.diff_ids.every((diffId) => digestPattern.test(diffId)));
      for (const list of [config.Env, config.Cmd, config.Entrypoint]) {
        assert.ok(list.every((item) => typeof item === "string" && !item.includes("\0")));
      }
      for (const map of [config.Labels, config.Volumes, config.ExposedPorts]) assert.ok(typeof map === "object");
      assert.ok(history.every(({ created_by }) => created_by === undefined || typeof created_by === "string"));
    },
  },
  {
    name: "challenge and token",
    corpus: readCorpus("registry/challenge"),
    async read(text, random) {
      const header = text.replace(/[\r\n]+/g, " ");
      for (const { scheme, parameters } of parseChallenges(header)) {
        assert.ok(scheme !== "" && Object.values(parameters).every((value) => typeof value === "string"));
      }
      const answer = mutate(random, oneOf(random, tokens), tokens);
      const asked: string[] = [];
      const http: HttpClient = {
        request: ({ url }) => {
          asked.push(url);
          return Promise.resolve(responseOf(oneOf(random, [200, 200, 200, 400, 401, 503, 999]), answer));
        },
        close: () => Promise.resolve(),
      };
      const authorizer = new Authorizer({
        http,
        origin: new URL("https://r.example/v2"),
        repository: "x/y",
        auth: oneOf(random, [undefined, { username: "a", password: "b" }, { identityToken: "t" }]),
      });
      try {
        const refusal = { ...responseOf(401, ""), headers: { "www-authenticate": header } };
        await authorizer.renew(refusal, undefined, "x", new AbortController().signal);
        assert.match(authorizer.header ?? "", /^(?:Bearer|Basic) [\x21-\x7e]+$/);
      } finally {
        for (const url of asked) assert.equal(new URL(url).protocol, "https:");
      }
    },
  },
  {
    name: "hosts.toml",
    corpus: readCorpus("registry/hosts"),
    async read(text) {
      writeFileSync(join(directory, "r.example", "hosts.toml"), text);
      const hosts = await registries.hostsOf("r.example");
      assert.ok(hosts.length > 0);
      for (const { baseUrl, headers, dialTimeoutMs = 1 } of hosts) {
        const { protocol, username } = new URL(`${baseUrl}/x`);
        assert.ok((protocol === "https:" || protocol === "http:") && username === "" && !baseUrl.endsWith("/"));
        new Headers(headers);
        assert.ok(dialTimeoutMs >= 1);
      }
    },
  },
  {
    name: "reference",
    corpus: ["busybox", "r.example:5000/a/b:1", `[::1]:5000/x@sha256:${"a".repeat(64)}`, "docker.io/library/x__y.z:t"],
    read(text) {
      const whole = formatReference(parseReference(text));
      assert.equal(formatReference(parseReference(whole)), whole);
      assert.match(whole, /^[A-Za-z0-9.:[\]-]+\/[a-z0-9._/-]+(?::[A-Za-z0-9_.-]+|@sha(?:256|384|512):[0-9a-f]+)$/);
    },
  },
  {
    name: "Retry-After",
    corpus: ["120", "Thu, 26 Nov 2026 17:00:00 GMT"],
    read(text) {
      const ms = retryAfterMs(text, text) ?? retryAfterMs(text, undefined) ?? 0;
      assert.ok(ms >= 0 && Number.isFinite(ms));
    },
  },
];
const tokens = readCorpus("registry/token");

function checkDescriptor({ digest, size, mediaType, urls = [], annotations }: Descriptor): void {
  assert.match(digest, digestPattern);
  assert.ok(Number.isSafeInteger(size) && size >= 0 && typeof mediaType === "string");
  assert.ok(urls.every((url) => typeof url === "string"));
  assert.ok(Object.values(annotations).every((value) => typeof value === "string"));
}

/** For test/corpus, should it be a mistake. */
function keep(text: string, name: string): string {
  const path = join(tmpdir(), `berth-fuzz-${name.replaceAll(" ", "-")}-${fuzzSeed}`);
  writeFileSync(path, text);
  return `the document is in ${path}`;
}

function responseOf(status: number, text: string): HttpResponse {
  const chunks = (async function* () {
    yield Buffer.from(text);
  })();
  return {
    status,
    headers: { "content-type": "application/json" },
    from: "r.example",
    elsewhere: false,
    body: { [Symbol.asyncIterator]: () => chunks, destroy: () => undefined },
  };
}

for (const [index, target] of targets.entries()) {
  test(`${target.name}: nearly right ones, seed ${fuzzSeed}`, async (t) => {
    const end = performance.now() + (fuzzSeconds * 1000) / targets.length;
    let [rounds, refused] = [0, 0];
    for (; rounds < target.corpus.length || performance.now() < end; rounds++) {
      const random = randomFrom(fuzzSeed * 1_000_003 + index * 100_000_007 + rounds);
      const source = target.corpus[rounds] ?? oneOf(random, target.corpus);
      const change = random() < 0.5 ? mutate : mutateText;
      const text = rounds < target.corpus.length ? source : change(random, source, target.corpus);
      const begun = performance.now();
      try {
        await target.read(text, random);
      } catch (error) {
        refused += 1;
        const { message } = error as Error;
        const isRefusal = error instanceof BerthError && message.length > 0 && message.length < 2_000;
        // a document may have such words itself
        const isMistake = mistake.test(message) && !mistake.test(text);
        if (!isRefusal || isMistake) {
          assert.fail(
            `round ${rounds} of seed ${fuzzSeed}: ${String(error).slice(0, 2000)}\n${keep(text, target.name)}`,
          );
        }
      }
      assert.ok(performance.now() - begun < longestMs, `round ${rounds} of seed ${fuzzSeed} took too long`);
      // whoever waits for this process to end is not kept
      if (rounds % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    t.diagnostic(`${rounds} documents, ${refused} refused`);
    assert.ok(refused < rounds, "some are read");
  });
}

test.before(async () => {
  // what the corpus names
  const authority = await makeAuthority();
  const client = await authority.client("me");
  copyFileSync(authority.certificate, join(directory, "r.example", "ca.pem"));
  copyFileSync(client.certificate, join(directory, "r.example", "me.cert"));
  copyFileSync(client.key, join(directory, "r.example", "me.key"));
  await authority.remove();
});
test.after(() => rmSync(directory, { recursive: true, force: true }));
