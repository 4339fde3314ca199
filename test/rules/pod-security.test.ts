/** The CRI's rules for RunPodSandbox: who a pod's own processes are, what confines them, and kernel parameters. */
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { long, NamespaceMode, removePod, runPod } from "../support/workload.js";
import { placeForRules, refusedPods } from "./support.js";

const place = placeForRules();

type Context = runtime.v1.ILinuxSandboxSecurityContext;
const context = (security_context: Context): runtime.v1.IPodSandboxConfig => ({ linux: { security_context } });
const sysctls = (key: string, value: string, more: Context = {}): runtime.v1.IPodSandboxConfig => ({
  linux: { sysctls: { [key]: value }, security_context: more },
});

describe("who a pod's own processes are", () => {
  refusedPods(place, [
    [
      "a group needs a user",
      context({ run_as_group: { value: long(5) } }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.run_as_group: it needs run_as_user/,
    ],
    [
      "a user is not negative",
      context({ run_as_user: { value: long(-1) } }),
      "INVALID_ARGUMENT",
      /security_context\.run_as_user: -1/,
    ],
    [
      "a user is below 2^32 - 1",
      context({ run_as_user: { value: long(4294967295) } }),
      "INVALID_ARGUMENT",
      /security_context\.run_as_user: 4294967295/,
    ],
    [
      "a group is not negative",
      context({ run_as_user: { value: long(1) }, run_as_group: { value: long(-5) } }),
      "INVALID_ARGUMENT",
      /security_context\.run_as_group: -5/,
    ],
    [
      "supplemental groups are groups",
      context({ supplemental_groups: [long(1), long(-1)] }),
      "INVALID_ARGUMENT",
      /security_context\.supplemental_groups\[1\]: -1/,
    ],
    [
      "the policy is Merge or Strict",
      context({ supplemental_groups_policy: 2 as never }),
      "INVALID_ARGUMENT",
      /security_context\.supplemental_groups_policy: 2 is neither Merge nor Strict/,
    ],
  ]);

  test("a user with a group is fine", async () => {
    const pod = await runPod(
      place.agent,
      context({ run_as_user: { value: long(1000) }, run_as_group: { value: long(5) } }),
    );
    await removePod(place.agent, pod);
  });
});

describe("what confines a pod's own processes", () => {
  refusedPods(place, [
    [
      "a seccomp profile's path goes with Localhost alone",
      context({ seccomp: { profile_type: 1, localhost_ref: "/p" } }),
      "INVALID_ARGUMENT",
      /^config\.linux\.security_context\.seccomp\.localhost_ref/,
    ],
    [
      "a Localhost seccomp profile has an absolute path",
      context({ seccomp: { profile_type: 2, localhost_ref: "p.json" } }),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: "p\.json" is not absolute/,
    ],
    [
      "a Localhost seccomp profile has a path",
      context({ seccomp: { profile_type: 2 } }),
      "INVALID_ARGUMENT",
      /seccomp\.localhost_ref: a path is needed/,
    ],
    [
      "a seccomp profile has a type that there is",
      context({ seccomp: { profile_type: 3 as never } }),
      "INVALID_ARGUMENT",
      /seccomp\.profile_type: 3 is no ProfileType/,
    ],
    [
      "the old field names a profile in the old ways",
      context({ seccomp_profile_path: "x" }),
      "INVALID_ARGUMENT",
      /seccomp_profile_path: "x" is no profile/,
    ],
    [
      "an AppArmor profile's name goes with Localhost alone",
      context({ apparmor: { profile_type: 0, localhost_ref: "p" } }),
      "INVALID_ARGUMENT",
      /apparmor\.localhost_ref/,
    ],
    [
      "an AppArmor profile of the node has a name",
      context({ apparmor: { profile_type: 2 } }),
      "INVALID_ARGUMENT",
      /apparmor\.localhost_ref: Localhost needs/,
    ],
  ]);
});

describe("kernel parameters", () => {
  const refusedOnes: [string, string, string, Context?][] = [
    ["one of the node's is refused", "kernel.core_pattern", "x"],
    ["vm.* is the node's", "vm.overcommit_memory", "1"],
    ["a name that begins as a namespace's and is not one", "kernel.shmx.y", "1"],
    ["a name does not climb", "net/../kernel/core_pattern", "x"],
    ["a name does not climb with dots", "net...kernel.core_pattern", "x"],
    ["a name that mixes dots and slashes to climb", "net.ipv4/../../kernel.core_pattern", "x"],
    ["a name is not empty", "", "1"],
    ["a name has no space", "net.core.somaxconn ", "1"],
    ["a name has no line end", "net.core.somaxconn\nvm.x", "1"],
    ["a name has no NUL", "net.core.somaxconn\0", "1"],
    ["a name does not begin with a slash", "/net/core/somaxconn", "1"],
    ["a name does not end with a dot", "net.core.somaxconn.", "1"],
    ["a value has no line end", "net.core.somaxconn", "1\n2"],
    ["a value has no NUL", "net.core.somaxconn", "1\0"],
    ["a value has 4096 bytes at most", "net.core.somaxconn", "1".repeat(4097)],
    [
      "net.* is not for the node's network",
      "net.core.somaxconn",
      "1",
      { namespace_options: { network: NamespaceMode.NODE } },
    ],
    [
      "kernel.shm* is not for the node's IPC",
      "kernel.shm_rmid_forced",
      "1",
      { namespace_options: { ipc: NamespaceMode.NODE } },
    ],
    [
      "fs.mqueue.* is not for the node's IPC",
      "fs.mqueue.msg_max",
      "10",
      { namespace_options: { ipc: NamespaceMode.NODE } },
    ],
  ];
  refusedPods(
    place,
    refusedOnes.map(([rule, key, value, more]) => [
      rule,
      sysctls(key, value, more),
      "INVALID_ARGUMENT",
      /^config\.linux\.sysctls\[/,
    ]),
  );
  refusedPods(place, [
    [
      "one that the kernel does not have",
      sysctls("net.no.such", "1"),
      "INVALID_ARGUMENT",
      /^config\.linux\.sysctls\["net\.no\.such"\]: .*ENOENT/,
    ],
    [
      "a value that the kernel refuses",
      sysctls("net.ipv4.ip_forward", "perhaps"),
      "INVALID_ARGUMENT",
      /^config\.linux\.sysctls\["net\.ipv4\.ip_forward"\]: .*EINVAL/,
    ],
  ]);
});
