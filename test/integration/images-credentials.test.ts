/** Who is shown which credentials, how tokens are had and renewed, and that nothing of it is told to anybody else. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { RegistryAuth } from "../../agent/images/registry-auth.js";
import type { FailureKind } from "../../sandbox/errors.js";
import { startAgent } from "../support/agent.js";
import { makeAuthority } from "../support/certificates.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { type Answer, type LyingRegistry, startLyingRegistry } from "../support/lying-registry.js";

const basic = (text: string): string => `Basic ${Buffer.from(text).toString("base64")}`;

describe("credentials for registries", () => {
  const image: BuiltImage = buildImage({ layers: [[{ path: "a", content: "a" }], [{ path: "b", content: "b" }]] });
  let service: TestImages;
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-credentials-"));
    service = await openTestImages({
      registriesDirectories: [directory],
      patience: { stallMs: 30_000, retryMs: 5 },
    });
  });
  after(async () => {
    await service.close();
    await rm(directory, { recursive: true, force: true });
  });

  const withRegistry = async (answer: Answer, use: (registry: LyingRegistry) => Promise<void>): Promise<void> => {
    const registry = await startLyingRegistry(image, answer);
    try {
      await use(registry);
    } finally {
      await registry.stop();
    }
  };
  const pulls = async (registry: LyingRegistry, auth?: RegistryAuth): Promise<void> => {
    const reference = `${registry.host}/x/y:1`;
    const record = await service.images.pull({ reference, ...(auth && { auth }) });
    assert.equal(record.id, image.id);
    await service.images.store.remove(record.id);
  };
  const fails = async (
    registry: LyingRegistry,
    auth: RegistryAuth | undefined,
    kind: FailureKind,
    message: RegExp,
  ): Promise<void> => {
    const reference = `${registry.host}/x/y:1`;
    await assert.rejects(service.images.pull({ reference, ...(auth && { auth }) }), { kind, message });
    assert.deepEqual(await service.layerNames(), []);
  };
  const json = (response: ServerResponse, value: unknown, status = 200): true => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    return true;
  };
  const challenge = (request: IncomingMessage, response: ServerResponse, realm?: string): true => {
    const server = realm ?? `http://${request.headers.host}/token`;
    response
      .writeHead(401, { "www-authenticate": `Bearer realm="${server}",service="reg",scope="repository:x/y:pull"` })
      .end();
    return true;
  };
  /** A registry whose token server answers so; the token that counts is "good". */
  const withTokens =
    (token: (request: IncomingMessage, response: ServerResponse) => true): Answer =>
    (request, response, path) => {
      if (path === "/token") return token(request, response);
      return request.headers.authorization === "Bearer good" ? false : challenge(request, response);
    };
  const tokensOf = (registry: LyingRegistry) => registry.seen.filter(({ path }) => path === "/token");

  it("are changed for tokens under either of their names", async () => {
    for (const answer of [{ token: "good" }, { access_token: "good" }, { token: "", access_token: "good" }]) {
      await withRegistry(
        withTokens((request, response) =>
          json(response, answer, request.headers.authorization === basic("me:pass") ? 200 : 401),
        ),
        (registry) => pulls(registry, { username: "me", password: "pass" }),
      );
    }
  });

  it("are shown with each scope that the registry names by itself", async () => {
    const scopes = ["repository:x/y:pull", "repository:x/base:pull,push"];
    const asked: string[][] = [];
    await withRegistry(
      (request, response, path) => {
        if (path === "/token") {
          asked.push(new URL(request.url ?? "", "http://registry").searchParams.getAll("scope"));
          return json(response, { token: "good" });
        }
        if (request.headers.authorization === "Bearer good") return false;
        const server = `realm="http://${request.headers.host}/token"`;
        response.writeHead(401, { "www-authenticate": `Bearer ${server},scope="${scopes.join(" ")}"` }).end();
        return true;
      },
      (registry) => pulls(registry, { username: "me", password: "pass" }),
    );
    assert.deepEqual(asked, [scopes]);
  });

  it("may be an identity token, which is changed by OAuth2", async () => {
    for (const auth of [{ identityToken: "refresh" }, { username: "<token>", password: "refresh" }]) {
      let form = new URLSearchParams();
      await withRegistry(
        withTokens((request, response) => {
          assert.equal(request.method, "POST");
          assert.equal(request.headers["content-type"], "application/x-www-form-urlencoded");
          assert.equal(request.headers.authorization, undefined);
          let text = "";
          request.on("data", (chunk) => {
            text += chunk;
          });
          request.on("end", () => {
            form = new URLSearchParams(text);
            json(response, { access_token: "good", expires_in: 300, refresh_token: "other" });
          });
          return true;
        }),
        async (registry) => {
          await pulls(registry, auth);
          assert.deepEqual(Object.fromEntries(form), {
            service: "reg",
            scope: "repository:x/y:pull",
            grant_type: "refresh_token",
            refresh_token: "refresh",
            client_id: "berth",
          });
        },
      );
    }
  });

  it("get a new token when one expires in the middle of a pull, one for all that wait for it", async () => {
    let current = 0;
    let left = 0;
    await withRegistry(
      (request, response, path) => {
        if (path === "/token") {
          current += 1;
          // the manifest, and no more
          left = current === 1 ? 1 : 100;
          return json(response, { token: `number-${current}` });
        }
        const isGood = request.headers.authorization === `Bearer number-${current}` && left > 0;
        if (!isGood) return challenge(request, response);
        left -= 1;
        return false;
      },
      async (registry) => {
        await pulls(registry);
        assert.equal(tokensOf(registry).length, 2);
      },
    );
    // every token is good for one request
    await withRegistry(
      (request, response, path) => {
        if (path === "/token") {
          left = 1;
          current += 1;
          return json(response, { token: `number-${current}` });
        }
        if (request.headers.authorization !== `Bearer number-${current}` || left === 0) {
          return challenge(request, response);
        }
        left = 0;
        return false;
      },
      (registry) => pulls(registry),
    );
  });

  it("are not shown again and again to a registry that is never content", async () => {
    await withRegistry(
      (request, response, path) =>
        path === "/token" ? json(response, { token: "any" }) : challenge(request, response),
      async (registry) => {
        await fails(registry, { username: "a", password: "b" }, "PERMISSION_DENIED", /denies \S+x\/y:1 \(HTTP 401\)/);
        assert.ok(registry.seen.length <= 4, `${registry.seen.length} requests`);
      },
    );
    let n = 0;
    await withRegistry(
      (request, response, path) =>
        path === "/token" ? json(response, { token: `any-${n++}` }) : challenge(request, response),
      async (registry) => {
        await fails(registry, undefined, "PERMISSION_DENIED", /HTTP 401/);
        assert.ok(registry.seen.length <= 5, `${registry.seen.length} requests`);
      },
    );
    await withRegistry(
      (_request, response) => {
        response.writeHead(401, { "www-authenticate": "Basic realm=x" }).end();
        return true;
      },
      async (registry) => {
        await fails(registry, { username: "a", password: "b" }, "PERMISSION_DENIED", /HTTP 401/);
        assert.equal(registry.seen.length, 2);
      },
    );
    for (const header of [
      "",
      "Negotiate",
      'Digest realm="x", nonce="y"',
      "Bearer",
      'Bearer realm="file:///etc/passwd"',
    ]) {
      await withRegistry(
        (_request, response) => {
          response.writeHead(401, { "www-authenticate": header }).end();
          return true;
        },
        async (registry) => {
          const kind = header.startsWith("Bearer") ? "UNAVAILABLE" : "PERMISSION_DENIED";
          await fails(registry, undefined, kind, /wants credentials|names no token server/);
          assert.equal(registry.seen.length, 1);
        },
      );
    }
  });

  it("fail with a sentence when a token server answers nonsense", async () => {
    for (const [answer, kind, message] of [
      [(response: ServerResponse) => response.end("<html>"), "UNAVAILABLE", /127\S+ answered without a token for /],
      [(response: ServerResponse) => response.end("null"), "UNAVAILABLE", /without a token/],
      [(response: ServerResponse) => json(response, { token: "a\r\nx: y" }), "UNAVAILABLE", /without a token/],
      [(response: ServerResponse) => json(response, { token: { a: 1 }, access_token: 7 }), "UNAVAILABLE", /without a/],
      [
        (response: ServerResponse) => response.end(Buffer.alloc(2_000_000, " ")),
        "INTERNAL",
        /token of 127\S+ is longer/,
      ],
      [(response: ServerResponse) => response.writeHead(404).end(), "NOT_FOUND", /a token for \S+x\/y:1 is not on/],
      [(response: ServerResponse) => response.writeHead(400).end(), "PERMISSION_DENIED", /denies a token/],
      [
        (response: ServerResponse) => response.writeHead(307, { location: "/token" }).end(),
        "UNAVAILABLE",
        /redirects more/,
      ],
    ] as const) {
      await withRegistry(
        withTokens((_request, response) => {
          answer(response);
          return true;
        }),
        (registry) => fails(registry, undefined, kind, message),
      );
    }
    let busy = 3;
    await withRegistry(
      withTokens((_request, response) => (busy-- > 0 ? json(response, {}, 503) : json(response, { token: "good" }))),
      (registry) => pulls(registry),
    );
  });

  it("that are a registry's own token are shown at once, and are nothing else's business", async () => {
    await withRegistry(
      withTokens((_request, response) => json(response, { token: "good" })),
      async (registry) => {
        await pulls(registry, { registryToken: "good" });
        assert.equal(tokensOf(registry).length, 0);
        assert.ok(registry.seen.every(({ authorization }) => authorization === "Bearer good"));
        await fails(registry, { registryToken: "bad" }, "PERMISSION_DENIED", /to the registry token/);
        assert.equal(tokensOf(registry).length, 0);
        await fails(registry, { registryToken: "a\r\nx: y" }, "INVALID_ARGUMENT", /auth\.registry_token/);
        await fails(registry, { auth: "no base 64" }, "INVALID_ARGUMENT", /auth\.auth/);
      },
    );
  });

  it("are not given to a server that the registry leads to, whatever it asks for", async () => {
    const evil = await startLyingRegistry(image, (_request, response, path) =>
      path === "/collect" ? json(response, { token: "thanks" }) : challenge(_request, response, `${evil.url}/collect`),
    );
    for (const part of ["/blobs/", "/manifests/"]) {
      await withRegistry(
        (request, response, path) => {
          if (request.headers.authorization !== basic("me:secret")) {
            response.writeHead(401, { "www-authenticate": "Basic realm=x" }).end();
            return true;
          }
          if (!path.includes(part)) return false;
          response.writeHead(307, { location: `${evil.url}${path}` }).end();
          return true;
        },
        (registry) =>
          fails(registry, { username: "me", password: "secret" }, "PERMISSION_DENIED", /127.* denies .*HTTP 401/),
      );
    }
    // the token server may lead elsewhere as well
    await withRegistry(
      withTokens((_request, response) => {
        response.writeHead(302, { location: `${evil.url}/collect` }).end();
        return true;
      }),
      (registry) => fails(registry, { username: "me", password: "secret" }, "PERMISSION_DENIED", /HTTP 401/),
    );
    await withRegistry(
      withTokens((_request, response) => {
        response.writeHead(307, { location: `${evil.url}/collect` }).end();
        return true;
      }),
      (registry) => fails(registry, { identityToken: "secret" }, "UNAVAILABLE", /HTTP 307/),
    );
    assert.ok(evil.seen.length >= 3);
    assert.ok(evil.seen.every(({ authorization }) => authorization === undefined));
    assert.ok(!JSON.stringify(evil.seen).includes("secret"));
    await evil.stop();
  });

  it("with a server address are for that server, the others for all that stand in for the registry", async () => {
    await withRegistry(
      (request, response) => {
        if (request.headers.authorization === basic("me:pass")) return false;
        response.writeHead(401, { "www-authenticate": "Basic realm=x" }).end();
        return true;
      },
      async (mirror) => {
        await mkdir(join(directory, "r.example"), { recursive: true });
        await writeFile(
          join(directory, "r.example", "hosts.toml"),
          `server = "http://127.0.0.1:1"\n[host."${mirror.url}"]\n[host."${mirror.url}".header]\nx-secret = "s"\n`,
        );
        const pull = async (serverAddress?: string): Promise<string> => {
          const auth = { username: "me", password: "pass", ...(serverAddress && { serverAddress }) };
          const { id } = await service.images.pull({ reference: "r.example/x/y:1", auth });
          await service.images.store.remove(id);
          return id;
        };
        assert.equal(await pull(), image.id);
        assert.equal(await pull(mirror.url), image.id);
        mirror.seen.length = 0;
        await assert.rejects(pull("https://r.example/v1/"), {
          message: /wants credentials for r\.example\/x\/y:1; then/,
        });
        assert.ok(mirror.seen.length > 0 && mirror.seen.every(({ authorization }) => authorization === undefined));
        assert.ok(mirror.seen.every(({ headers }) => headers["x-secret"] === "s"));
      },
    );
  });

  it("are for no token server without https, where the registry has https", async () => {
    const authority = await makeAuthority();
    const collector = await startLyingRegistry(image);
    const secure = await startLyingRegistry(
      image,
      (request, response) => challenge(request, response, `${collector.url}/token`),
      await authority.server("DNS:s.example"),
    );
    await mkdir(join(directory, "s.example"));
    await writeFile(join(directory, "s.example", "hosts.toml"), `server = "${secure.url}"\nskip_verify = true\n`);
    const auth = { username: "me", password: "secret" };
    await assert.rejects(service.images.pull({ reference: "s.example/x/y:1", auth }), {
      kind: "UNAVAILABLE",
      message: /names a token server without https: 127/,
    });
    assert.equal(collector.seen.length, 0);
    await Promise.all([collector.stop(), secure.stop()]);
    await authority.remove();
  });

  it("are in no log and in no answer of the agent, whatever becomes of the pull", async () => {
    const agent = await startAgent({ flags: { "log-level": "debug" } });
    const secret = "s3cr3t-0f-n0b0dy";
    const forms = [
      { username: "me", password: secret },
      { auth: Buffer.from(`me:${secret}`).toString("base64") },
      { identity_token: secret },
      { registry_token: secret },
      { auth: `${secret} is no base64` },
      { registry_token: `${secret}\n` },
    ];
    const encoded = [
      secret,
      Buffer.from(secret).toString("base64").slice(3, 15),
      ...forms.flatMap(({ auth = [] }) => auth),
    ];
    const told: string[] = [];
    try {
      for (const status of [200, 401, 501, 307]) {
        await withRegistry(
          (request, response, path) => {
            if (path === "/token") return json(response, { token: "good" }, status === 501 ? 404 : status);
            if (status === 200)
              return request.headers.authorization === undefined ? challenge(request, response) : false;
            if (request.headers.authorization === undefined) return challenge(request, response);
            response.writeHead(status, { location: "ftp://x/" }).end();
            return true;
          },
          async (registry) => {
            for (const auth of forms) {
              const question = { image: { image: `${registry.host}/x/y:1` }, auth };
              await agent.client.call("PullImage", question).then(
                (answer) => told.push(JSON.stringify(answer)),
                (error: Error) => told.push(error.message),
              );
            }
          },
        );
      }
      told.push(agent.logs());
    } finally {
      await agent.stop();
    }
    assert.equal(told.length, 25);
    const everything = told.join("\n");
    assert.match(everything, /"method":"PullImage"/);
    for (const text of encoded) assert.ok(!everything.includes(text), text);
  });
});
