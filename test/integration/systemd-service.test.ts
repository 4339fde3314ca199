/** The systemd unit: told when it is ready, watched, restarted with its pods alive, activated by its socket. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkUnderSystemd } from "../support/systemd.js";

const unit = readFileSync(join(fileURLToPath(new URL("../../../deploy", import.meta.url)), "berth.service"), "utf8");

/** systemd.exec(5): what of it makes systemd unshare the mount namespace, and what containers would inherit. */
const ofAMountNamespace = [
  /^(Protect|Private|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|ExecPaths|NoExecPaths|TemporaryFileSystem)/,
  /^(BindPaths|BindReadOnlyPaths|MountFlags|MountAPIVFS|Root|ExtensionImages|ExtensionDirectories|DynamicUser)/,
  /^(NetworkNamespacePath|IPCNamespacePath|LoadCredential|SetCredential|LogNamespace)/,
];
const inherited = [
  /^(NoNewPrivileges|SystemCall|Restrict[A-Z]|LockPersonality|MemoryDeny|Capabilit|AmbientCap|SecureBits)/,
];

test("the unit gives the agent no mount namespace of its own, and its containers nothing that they cannot lose", () => {
  const names = unit.split("\n").flatMap((line) => /^([A-Za-z]+)=/.exec(line)?.[1] ?? []);
  assert.ok(names.includes("ExecStart") && names.includes("KillMode"));
  const wrong = names.filter((name) => [...ofAMountNamespace, ...inherited].some((pattern) => pattern.test(name)));
  assert.deepEqual(wrong, []);
});

checkUnderSystemd("service-checks");
