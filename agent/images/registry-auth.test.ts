import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { authIsFor, basicCredentialsOf, parseChallenges } from "./registry-auth.js";

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
    assert.throws(() => basicCredentialsOf({ auth: Buffer.from("none").toString("base64") }), /auth\.auth/);
  });

  it("are for the server that they name", () => {
    assert.ok(authIsFor({}, "r.example", "mirror.example"));
    assert.ok(authIsFor({ serverAddress: "https://r.example/v1/" }, "r.example", "r.example"));
    assert.ok(authIsFor({ serverAddress: "https://index.docker.io/v1/" }, "docker.io", "registry-1.docker.io"));
    assert.ok(!authIsFor({ serverAddress: "other.example" }, "r.example", "r.example"));
  });
});
