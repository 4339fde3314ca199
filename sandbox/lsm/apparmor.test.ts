import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";
import { apparmorChoice } from "../spec/apparmor.js";
import { withSecurity } from "../spec/spec-fixtures.js";
import { openApparmor } from "./apparmor.js";
import { findApparmorProfile } from "./apparmor-profile.js";
import { defaultApparmorProfileName } from "./default-apparmor-profile.js";

const directory = mkdtempSync(join(tmpdir(), "berth-apparmor-"));
after(() => rmSync(directory, { recursive: true }));

const profilesFile = join(directory, "profiles");
const parserInput = join(directory, "parsed");
/** It "loads" the default profile, and one more beside it. */
const goodParser = script(
  "good",
  `cat >${parserInput}; printf '${defaultApparmorProfileName} (enforce)\\n/usr/bin/man (sd) (complain)\\n' >${profilesFile}`,
);
const badParser = script("bad", "echo 'syntax error in line 7' >&2; exit 3");

function script(name: string, body: string): string {
  writeFileSync(join(directory, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  return join(directory, name);
}

const choice = (context: Record<string, unknown>) => apparmorChoice(withSecurity(context).linux?.security_context);
const open = (parser: string) => openApparmor(true, { profilesFile, parsers: ["/nowhere", parser] });

test("what a request asks for: the new field counts, a privileged container is confined by a named profile only", () => {
  assert.deepEqual(choice({}), { kind: "unset" });
  assert.equal(choice({ apparmor: {} }).kind, "default");
  assert.equal(choice({ apparmor_profile: "runtime/default" }).kind, "default");
  assert.deepEqual(choice({ apparmor: { profile_type: "Unconfined" } }), { kind: "unconfined" });
  assert.deepEqual(choice({ apparmor_profile: "unconfined" }), { kind: "unconfined" });
  const named = { apparmor: { profile_type: "Localhost", localhost_ref: "p" }, apparmor_profile: "unconfined" };
  const field = "config.linux.security_context.apparmor.localhost_ref";
  assert.deepEqual(choice(named), { kind: "localhost", field, profile: "p" });
  assert.deepEqual(choice({ ...named, privileged: true }), { kind: "localhost", field, profile: "p" });
  assert.deepEqual(choice({ apparmor_profile: "localhost/q r" }), {
    kind: "localhost",
    field: "config.linux.security_context.apparmor_profile",
    profile: "q r",
  });
  for (const context of [{ privileged: true }, { privileged: true, apparmor: {} }]) {
    assert.deepEqual(choice(context), { kind: "unconfined" });
  }
});

test("what cannot be a profile is refused", () => {
  const wrong = [
    { apparmor_profile: "q" },
    { apparmor_profile: "localhost/" },
    { apparmor_profile: "localhost/a\nb" },
    { apparmor: { profile_type: "Localhost" } },
    { apparmor: { profile_type: "Localhost", localhost_ref: "a\0b" } },
    { apparmor: { profile_type: "RuntimeDefault", localhost_ref: "p" } },
    { apparmor: { profile_type: "Unconfined", localhost_ref: "p" } },
  ];
  for (const context of wrong) assert.throws(() => choice(context), InvalidArgumentError, JSON.stringify(context));
});

test("a kernel without AppArmor refuses every profile that is asked for, and no other container", async () => {
  const apparmor = await openApparmor(false, { profilesFile, parsers: [goodParser] });
  assert.equal(apparmor.problem, "");
  assert.equal(await findApparmorProfile(choice({}), apparmor), undefined);
  assert.equal(await findApparmorProfile(choice({ apparmor_profile: "unconfined" }), apparmor), undefined);
  for (const context of [{ apparmor: {} }, { apparmor_profile: "localhost/p" }]) {
    const refused = { constructor: FailedPreconditionError, message: /apparmor.*this host's kernel has no AppArmor/ };
    await assert.rejects(findApparmorProfile(choice(context), apparmor), refused);
  }
});

test("the default profile is loaded at the start, and again when it was taken away", async () => {
  const apparmor = await open(goodParser);
  assert.match(readFileSync(parserInput, "utf8"), new RegExp(`profile ${defaultApparmorProfileName} `));
  for (const context of [{}, { apparmor: {} }]) {
    writeFileSync(profilesFile, "");
    assert.equal(await findApparmorProfile(choice(context), apparmor), defaultApparmorProfileName);
    assert.equal(await apparmor.isLoaded(defaultApparmorProfileName), true);
  }
});

test("a named profile has to be loaded", async () => {
  const apparmor = await open(goodParser);
  assert.equal(
    await findApparmorProfile(choice({ apparmor_profile: "localhost//usr/bin/man (sd)" }), apparmor),
    "/usr/bin/man (sd)",
  );
  await assert.rejects(findApparmorProfile(choice({ apparmor_profile: "localhost/gone" }), apparmor), {
    constructor: InvalidArgumentError,
    message: /apparmor_profile: the AppArmor profile "gone" is not loaded/,
  });
});

test("without a parser RuntimeDefault is refused, and who asks for nothing is unconfined", async () => {
  for (const [parser, why] of [
    ["/nowhere/else", /apparmor_parser is not installed/],
    [badParser, /bad ended with 3: syntax error in line 7/],
  ] as const) {
    const apparmor = await open(parser);
    assert.match(apparmor.problem, why);
    assert.equal(await findApparmorProfile(choice({}), apparmor), undefined);
    await assert.rejects(findApparmorProfile(choice({ apparmor: {} }), apparmor), {
      constructor: FailedPreconditionError,
      message: why,
    });
    assert.equal(
      await findApparmorProfile(choice({ apparmor_profile: "localhost//usr/bin/man (sd)" }), apparmor),
      "/usr/bin/man (sd)",
    );
  }
});
