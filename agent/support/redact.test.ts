import assert from "node:assert/strict";
import { test } from "node:test";
import { redacted, redactText, redactValue } from "./redact.js";

const planted = "Hunter2-planted";

const texts = [
  `traces = "http://user:${planted}@collector/v1"`,
  `HTTPS_PROXY=http://${planted}@proxy:3128`,
  `Authorization: Basic ${planted}`,
  `"authorization":"Bearer ${planted}"`,
  `DB_PASSWORD=${planted}`,
  `db.password: ${planted}`,
  `"password": "${planted}"`,
  `{\\"password\\":\\"${planted}\\"}`,
  `mysql --password ${planted} -h db`,
  `mysql --password=${planted}`,
  `GITHUB_TOKEN='a b ${planted}'`,
  `root=/dev/sda1 luks.secret=${planted} quiet`,
  `https://bucket/blob?X-Amz-Signature=${planted}&a=b`,
  `-----BEGIN RSA PRIVATE KEY-----\n${planted}\n-----END RSA PRIVATE KEY-----`,
  `-----BEGIN PRIVATE KEY-----\n${planted}`,
  `eyJhbGciOiJIUzI1NiJ9.${planted}.sig`,
  `Set-Cookie: session=${planted}; Path=/`,
  `${"x".repeat(100)}_password=${planted}`,
  `mysql --${"x".repeat(60)}-password ${planted}`,
  `${Buffer.from(planted).toString("base64")}\n${planted.replace("-", "+")}\n-----END RSA PRIVATE KEY-----`,
];
for (const text of texts) {
  test(`nothing is left of it in: ${text.replaceAll("\n", " ")}`, () => {
    const left = redactText(text);
    assert.ok(!left.includes(planted) && !left.includes(planted.replace("-", "+")), left);
    assert.ok(left.includes(redacted));
  });
}

test("a program that writes megabytes without a blank does not keep it busy for hours", { timeout: 60_000 }, () => {
  for (const word of [
    "a",
    "?",
    "?a",
    "a.",
    "--a",
    "eyJ-",
    "eyJ",
    "pass",
    "token-",
    "&key",
    "a://",
    "-----BEGIN ",
    '"',
    "x=",
  ])
    redactText(word.repeat(500_000 / word.length));
});

test("what is no secret stays", () => {
  for (const text of [
    "https://registry.example/v2/team/app/manifests/1.2",
    "pod sandbox 3f2a could not be started: the bridge berth0 cannot be set up",
    "user@host.example",
    "tokens are asked for at every pull",
    "key order: a, b",
  ])
    assert.equal(redactText(text), text);
});

test("keys of objects that name secrets lose their values, at any depth", () => {
  const value = {
    name: "web",
    auth: { username: "u", password: planted },
    annotations: { "kubectl.kubernetes.io/last-applied-configuration": planted },
    list: [{ env: [{ key: "A", value: planted }] }, `token=${planted}`],
    apiKey: planted,
    secret: "",
    tokensLeft: null,
  };
  const left = redactValue(value) as typeof value;
  assert.ok(!JSON.stringify(left).includes(planted));
  assert.deepEqual([left.name, left.auth, left.secret, left.tokensLeft], ["web", redacted, "", null]);
});
