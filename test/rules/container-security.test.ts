/** The CRI's rules for CreateContainer: who runs it, and how it is confined. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { containerStatus, long, out, removePod, runContainer, runPod, runToEnd, sh } from "../support/workload.js";
import { placeForRules, refusedContainers } from "./support.js";

let profile = "";
const place = placeForRules(({ agent }) => {
  profile = join(agent.paths.base, "profile.json");
  writeFileSync(profile, "{");
  mkdirSync(join(agent.paths.base, "directory"));
});

type Context = runtime.v1.ILinuxContainerSecurityContext;
const context = (security_context: Context): runtime.v1.IContainerConfig => ({ linux: { security_context } });
const value = (number: number) => ({ value: long(number) });

describe("who runs it", () => {
  refusedContainers(place, [
    [
      "a user is given once",
      context({ run_as_user: value(1), run_as_username: "app" }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.run_as_username: run_as_user is set, too/,
    ],
    [
      "a group needs a user",
      context({ run_as_group: value(1) }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.run_as_group: it needs run_as_user or run_as_username/,
    ],
    [
      "a name is in the image",
      context({ run_as_username: "nobody-here" }),
      "INVALID_ARGUMENT",
      /run_as_username: there is no user "nobody-here" in the container's \/etc\/passwd/,
    ],
    [
      "a name that is a number is in the image",
      context({ run_as_username: "4242" }),
      "INVALID_ARGUMENT",
      /run_as_username: there is no user 4242/,
    ],
    ["a name of two lines is none", context({ run_as_username: "root\nx" }), "INVALID_ARGUMENT", /run_as_username/],
    [
      "a user is not negative",
      context({ run_as_user: value(-1) }),
      "INVALID_ARGUMENT",
      /run_as_user: -1 is not within/,
    ],
    [
      "a user is below 2^32 - 1",
      context({ run_as_user: value(4294967295) }),
      "INVALID_ARGUMENT",
      /run_as_user: 4294967295 is not within/,
    ],
    [
      "a user does not wrap around",
      context({ run_as_user: value(4294967296) }),
      "INVALID_ARGUMENT",
      /run_as_user: 4294967296/,
    ],
    [
      "a group is not negative",
      context({ run_as_user: value(1), run_as_group: value(-1) }),
      "INVALID_ARGUMENT",
      /run_as_group: -1/,
    ],
    [
      "a group is below 2^32 - 1",
      context({ run_as_user: value(1), run_as_group: value(4294967295) }),
      "INVALID_ARGUMENT",
      /run_as_group: 4294967295/,
    ],
    [
      "a supplemental group is not negative",
      context({ supplemental_groups: [long(5), long(-1)] }),
      "INVALID_ARGUMENT",
      /supplemental_groups\[1\]: -1/,
    ],
    [
      "a supplemental group is below 2^32 - 1",
      context({ supplemental_groups: [long(4294967295)] }),
      "INVALID_ARGUMENT",
      /supplemental_groups\[0\]: 4294967295/,
    ],
    [
      "65,536 supplemental groups are all that there can be",
      () => context({ supplemental_groups: Array.from({ length: 65_537 }, (_, i) => long(i)) }),
      "INVALID_ARGUMENT",
      /supplemental_groups: 65537/,
    ],
    [
      "the policy is Merge or Strict",
      context({ supplemental_groups_policy: 2 as never }),
      "INVALID_ARGUMENT",
      /supplemental_groups_policy: 2 is neither Merge nor Strict/,
    ],
  ]);

  test("the largest ids there are, and who it is told to be", async () => {
    const largest = 4294967294;
    const { output, id } = await runToEnd(place.agent, place.pod, {
      ...sh("id -u; id -g; sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status"),
      ...context({
        run_as_user: value(largest),
        run_as_group: value(largest),
        supplemental_groups: [long(largest - 1)],
      }),
    });
    assert.equal(output.replaceAll(" \n", "\n"), `${largest}\n${largest}\n${largest - 1} ${largest}\n`);
    const { user } = await containerStatus(place.agent, id);
    assert.deepEqual([user?.linux?.uid, user?.linux?.gid].map(String), [`${largest}`, `${largest}`]);
  });
});

describe("what it is allowed", () => {
  refusedContainers(place, [
    [
      "privileged is for pods that say so",
      context({ privileged: true }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.privileged: the pod sandbox was not asked/,
    ],
    [
      "a capability to add is one",
      context({ capabilities: { add_capabilities: ["KILL", "FLY"] } }),
      "INVALID_ARGUMENT",
      /capabilities\.add_capabilities: "FLY" is no capability/,
    ],
    [
      "a capability to drop is one",
      context({ capabilities: { drop_capabilities: ["CAP_FLY"] } }),
      "INVALID_ARGUMENT",
      /capabilities\.drop_capabilities: "CAP_FLY"/,
    ],
    [
      "an ambient capability is one",
      context({ capabilities: { add_ambient_capabilities: [""] } }),
      "INVALID_ARGUMENT",
      /capabilities\.add_ambient_capabilities: ""/,
    ],
    [
      "a masked path is absolute",
      context({ masked_paths: ["/proc/kcore", "proc/keys"] }),
      "INVALID_ARGUMENT",
      /security_context\.masked_paths\[1\]: "proc\/keys" is not absolute/,
    ],
    [
      "a masked path is not empty",
      context({ masked_paths: [""] }),
      "INVALID_ARGUMENT",
      /masked_paths\[0\]: a path is needed/,
    ],
    ["a masked path has no NUL", context({ masked_paths: ["/a\0"] }), "INVALID_ARGUMENT", /masked_paths\[0\]/],
    [
      "a read-only path is absolute",
      context({ readonly_paths: ["x"] }),
      "INVALID_ARGUMENT",
      /security_context\.readonly_paths\[0\]: "x" is not absolute/,
    ],
    ["a read-only path has no NUL", context({ readonly_paths: ["/a\0"] }), "INVALID_ARGUMENT", /readonly_paths\[0\]/],
  ]);
});

describe("privileged is all of it", () => {
  test("capabilities, unmasked paths, a writable /proc and /sys, no confinement, every device", async () => {
    const strong = { linux: { security_context: { privileged: true } } };
    const pod = await runPod(place.agent, strong);
    const asked: Context = {
      ...strong.linux.security_context,
      capabilities: { drop_capabilities: ["ALL"] },
      seccomp: { profile_type: 0 },
      masked_paths: ["/proc/keys"],
      readonly_paths: ["/proc/sys"],
    };
    const id = await runContainer(place.agent, pod, context(asked));
    const told = (script: string) => out(place.agent, id, script);
    const own = /^CapPrm:\s*(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    assert.equal(await told("sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status"), own);
    assert.equal(await told("sed -n 's/^Seccomp:[[:space:]]*//p' /proc/self/status"), "0");
    assert.equal(await told("grep -c ' /proc/' /proc/mounts || true"), "0");
    assert.match(await told("grep ' /proc proc ' /proc/mounts"), / rw,/);
    assert.match(await told("grep ' /sys sysfs ' /proc/mounts"), / rw,/);
    assert.equal(await told("echo 1 > /proc/sys/net/ipv4/ip_forward && echo written"), "written");
    assert.equal(await told("mknod /any c 1 5 && head -c 3 /any | wc -c"), "3");
    const ofHost = readdirSync("/dev", { withFileTypes: true }).filter(
      (one) => one.isCharacterDevice() || one.isBlockDevice(),
    );
    const nodes = (await told("find /dev -maxdepth 1 '(' -type c -o -type b ')'")).split("\n");
    for (const { name } of ofHost)
      assert.ok(["console", "ptmx"].includes(name) || nodes.includes(`/dev/${name}`), name);
    // one that no other container may open
    assert.equal(await told("mknod /kmsg c 1 11 && : < /kmsg && echo open"), "open");
    await removePod(place.agent, pod);
  });
});

describe("seccomp, AppArmor, SELinux", () => {
  const localhost = (localhost_ref: string) => context({ seccomp: { profile_type: 2, localhost_ref } });
  refusedContainers(place, [
    [
      "a path goes with Localhost alone",
      context({ seccomp: { profile_type: 0, localhost_ref: "/p" } }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.seccomp\.localhost_ref: it goes with profile_type Localhost alone/,
    ],
    ["Localhost has a path", localhost(""), "INVALID_ARGUMENT", /seccomp\.localhost_ref: a path is needed/],
    [
      "the path is absolute",
      localhost("profile.json"),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: "profile\.json" is not absolute/,
    ],
    ["the path has no NUL", localhost("/a\0"), "INVALID_ARGUMENT", /seccomp\.localhost_ref/],
    [
      "the file is there",
      localhost("/nowhere/profile.json"),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: the seccomp profile cannot be read: .*ENOENT/,
    ],
    [
      "the file is a file",
      () => localhost(join(place.agent.paths.base, "directory")),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: .* is no regular file/,
    ],
    [
      "a device is no file",
      localhost("/dev/zero"),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: \/dev\/zero is no regular file/,
    ],
    [
      "the file is JSON",
      () => localhost(profile),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.seccomp\.localhost_ref: the seccomp profile .*profile\.json: it is not JSON/,
    ],
    [
      "the type is one that there is",
      context({ seccomp: { profile_type: 5 as never } }),
      "INVALID_ARGUMENT",
      /seccomp\.profile_type: 5 is no ProfileType/,
    ],
    [
      "the old field says runtime/default, unconfined or localhost/",
      context({ seccomp_profile_path: "anything" }),
      "INVALID_ARGUMENT",
      /seccomp_profile_path: "anything" is no profile/,
    ],
    [
      "the old field's path is absolute",
      context({ seccomp_profile_path: "localhost/p.json" }),
      "INVALID_ARGUMENT",
      /seccomp_profile_path: "p\.json" is not absolute/,
    ],
    [
      "the old field's file is there",
      context({ seccomp_profile_path: "localhost//nowhere/profile.json" }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.seccomp_profile_path: the seccomp profile cannot be read: .*ENOENT/,
    ],
    [
      "the old field's file is JSON",
      () => context({ seccomp_profile_path: `localhost/${profile}` }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.seccomp_profile_path: the seccomp profile .*profile\.json: it is not JSON/,
    ],
    [
      "an AppArmor profile's name goes with Localhost alone",
      context({ apparmor: { profile_type: 1, localhost_ref: "p" } }),
      "INVALID_ARGUMENT",
      /apparmor\.localhost_ref: it goes with profile_type Localhost alone/,
    ],
    [
      "an AppArmor profile of the node has a name",
      context({ apparmor: { profile_type: 2 } }),
      "INVALID_ARGUMENT",
      /apparmor\.localhost_ref: Localhost needs a profile's name/,
    ],
    [
      "an AppArmor profile has a type that there is",
      context({ apparmor: { profile_type: 9 as never } }),
      "INVALID_ARGUMENT",
      /apparmor\.profile_type: 9 is no ProfileType/,
    ],
    [
      "the old AppArmor field names a profile in the old ways",
      context({ apparmor_profile: "x" }),
      "INVALID_ARGUMENT",
      /apparmor_profile: "x" is no profile/,
    ],
    [
      "the old AppArmor field's localhost/ has a name",
      context({ apparmor_profile: "localhost/" }),
      "INVALID_ARGUMENT",
      /apparmor_profile: "localhost\/" is no profile/,
    ],
  ]);

  test("nothing said about seccomp is unconfined, as the old field's empty path is", async () => {
    const script = sh("sed -n 's/^Seccomp:[[:space:]]*//p' /proc/self/status");
    for (const [asked, expected] of [
      [{}, "0\n"],
      [{ seccomp_profile_path: "unconfined" }, "0\n"],
      [{ seccomp_profile_path: "runtime/default" }, "2\n"],
    ] as const) {
      const { output } = await runToEnd(place.agent, place.pod, { ...script, ...context(asked) });
      assert.equal(output, expected, JSON.stringify(asked));
    }
  });
});
