import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { authIsFor, basicCredentialsOf, bearerHeader, identityTokenOf, parseChallenges } from "./registry-auth.js";

describe("challenges", () => {
  it("are read with quotes, commas and several schemes", () => {
    assert.deepEqual(
      parseChallenges(
        'Bearer realm="https://auth.example/token",service="a \\"b\\"",scope="repository:x:pull,push", Basic realm=x',
      ),
      [
        {
          scheme: "bearer",
          parameters: { realm: "https://auth.example/token", service: 'a "b"', scope: "repository:x:pull,push" },
        },
        { scheme: "basic", parameters: { realm: "x" } },
      ],
    );
    assert.deepEqual(parseChallenges(""), []);
    assert.deepEqual(parseChallenges('realm="x"'), []);
  });

  it("cost little, whatever is sent", () => {
    const start = performance.now();
    parseChallenges('Bearer "'.repeat(100_000));
    assert.ok(performance.now() - start < 1000);
  });
});

describe("credentials", () => {
  it("come as name and password or as one base64 string", () => {
    assert.deepEqual(basicCredentialsOf({ username: "a", password: "b" }), { username: "a", password: "b" });
    const auth = Buffer.from("a:b:c").toString("base64");
    assert.deepEqual(basicCredentialsOf({ username: "", auth }), { username: "a", password: "b:c" });
    assert.equal(basicCredentialsOf({}), undefined);
    assert.equal(basicCredentialsOf(undefined), undefined);
    for (const wrong of [Buffer.from("none").toString("base64"), Buffer.from(":x").toString("base64"), "YTpi!", "="]) {
      assert.throws(() => basicCredentialsOf({ auth: wrong }), /auth\.auth/);
    }
  });

  it("are for the server that they name", () => {
    assert.ok(authIsFor({}, "mirror.example"));
    for (const [serverAddress, host] of [
      ["https://r.example/v1/", "r.example"],
      ["http://r.example:5000", "r.example:5000"],
      [" R.Example:443 ", "r.example"],
      ["[::1]:5000", "[::1]:5000"],
      ["https://index.docker.io/v1/", "registry-1.docker.io"],
      ["docker.io", "registry-1.docker.io"],
    ] as const) {
      assert.ok(authIsFor({ serverAddress }, host), serverAddress);
    }
    for (const [serverAddress, host] of [
      ["other.example", "r.example"],
      ["r.example", "mirror.example"],
      ["r.example", "r.example:5000"],
      ["docker.io", "mirror.example"],
      ["docker.io", "docker.io.example"],
      ["r.example@other.example", "r.example"],
      ["not an address", "r.example"],
    ] as const) {
      assert.ok(!authIsFor({ serverAddress }, host), serverAddress);
    }
  });

  it("are an identity token in its own field, or as the password of the user <token>", () => {
    assert.equal(identityTokenOf({ identityToken: "t" }), "t");
    assert.equal(identityTokenOf({ username: "<token>", password: "p" }), "p");
    assert.equal(identityTokenOf({ auth: Buffer.from("<token>:q").toString("base64") }), "q");
    assert.equal(identityTokenOf({ username: "a", password: "b" }), undefined);
    assert.equal(identityTokenOf(undefined), undefined);
  });

  it("are nothing that a header cannot have", () => {
    assert.equal(bearerHeader("a.b-c"), "Bearer a.b-c");
    for (const token of ["a\r\nx: y", "a b", "\u00e9", ""]) assert.throws(() => bearerHeader(token), /registry_token/);
  });
});
