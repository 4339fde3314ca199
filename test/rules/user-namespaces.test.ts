/** The CRI's rules for user namespaces and id mappings. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { native } from "../../native/binding.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import { createContainer, fails, NamespaceMode, type RunningPod, runPod } from "../support/workload.js";
import { leavesNothing, placeForRules, type Refusal, refusedContainers, refusedPods } from "./support.js";

const range = { container_id: 0, host_id: 500_000, length: 65_536 };
const users = (more: runtime.v1.IUserNamespace) => ({ mode: NamespaceMode.POD, uids: [range], gids: [range], ...more });
const pod = (
  more: runtime.v1.IUserNamespace,
  others: runtime.v1.INamespaceOption = {},
): runtime.v1.IPodSandboxConfig => ({
  linux: { security_context: { namespace_options: { userns_options: users(more), ...others } } },
});
const skip = supportsUserNamespaces(native.probeFeatures()) ? false : "tmpfs cannot map ids here";
const field = "config\\.linux\\.security_context\\.namespace_options\\.userns_options";

let mapped: RunningPod;
const place = placeForRules(async ({ agent }) => {
  mkdirSync(join(agent.paths.base, "volume"));
  if (!skip) mapped = await runPod(agent, pod({}));
});

describe("the mappings of a pod", () => {
  refusedPods(place, [
    [
      "the mode is POD or NODE, not CONTAINER",
      pod({ mode: NamespaceMode.CONTAINER }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.mode: .*not CONTAINER`),
    ],
    [
      "the mode is POD or NODE, not TARGET",
      pod({ mode: NamespaceMode.TARGET }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.mode: .*not TARGET`),
    ],
    [
      "the mode is one that there is",
      pod({ mode: 7 as never }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.mode: .*not 7`),
    ],
    [
      "NODE maps no users",
      pod({ mode: NamespaceMode.NODE, gids: [] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.uids: the mode NODE maps no ids`),
    ],
    [
      "NODE maps no groups",
      pod({ mode: NamespaceMode.NODE, uids: [] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.gids: the mode NODE maps no ids`),
    ],
    ["POD maps users", pod({ uids: [] }), "INVALID_ARGUMENT", new RegExp(`^${field}\\.uids: there is no mapping`)],
    ["POD maps groups", pod({ gids: [] }), "INVALID_ARGUMENT", new RegExp(`^${field}\\.gids: there is no mapping`)],
    [
      "users are one run",
      pod({ uids: [range, { ...range, container_id: 70_000 }] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.uids: there are 2 mappings`),
    ],
    [
      "groups are one run",
      pod({ gids: [range, range] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.gids: there are 2 mappings`),
    ],
    [
      "a run is not empty",
      pod({ uids: [{ ...range, length: 0 }] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.uids\\[0\\]\\.length`),
    ],
    [
      "root is mapped",
      pod({ uids: [{ ...range, container_id: 1 }] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.uids\\[0\\]\\.container_id: .*root`),
    ],
    [
      "root's group is mapped",
      pod({ gids: [{ ...range, container_id: 1 }] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.gids\\[0\\]\\.container_id: .*root`),
    ],
    [
      "a run ends with the last id of the host",
      pod({ uids: [{ ...range, host_id: 4_294_967_290 }] }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.uids\\[0\\]\\.host_id`),
    ],
    [
      "a run ends with the last id inside",
      pod({
        uids: [{ ...range, host_id: 0, length: 4_294_967_295 + 0 }],
        gids: [{ container_id: 0, host_id: 1, length: 4_294_967_295 }],
      }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.gids\\[0\\]\\.host_id`),
    ],
  ]);
  refusedPods(
    place,
    (["network", "pid", "ipc"] as const).map(
      (name): Refusal<runtime.v1.IPodSandboxConfig> => [
        `the node's ${name} namespace is not for a pod with a user namespace`,
        pod({}, { [name]: NamespaceMode.NODE }),
        "INVALID_ARGUMENT",
        new RegExp(`namespace_options\\.${name}: a pod with a user namespace cannot have the host's`),
      ],
    ),
  );
});

describe("a container has its pod's", () => {
  const container = (userns_options: runtime.v1.IUserNamespace): runtime.v1.IContainerConfig => ({
    linux: { security_context: { namespace_options: { pid: NamespaceMode.CONTAINER, userns_options } } },
  });
  refusedContainers(place, [
    ["none of its own", container(users({})), "INVALID_ARGUMENT", new RegExp(`^${field}: a container has its pod's`)],
    [
      "nor one of its own mode",
      container({ mode: NamespaceMode.CONTAINER }),
      "INVALID_ARGUMENT",
      new RegExp(`^${field}\\.mode`),
    ],
  ]);

  test("nor other mappings, nor the node's", { skip }, async () => {
    for (const options of [users({ uids: [{ ...range, host_id: 700_000 }] }), { mode: NamespaceMode.NODE }]) {
      await leavesNothing(place, () =>
        fails(
          createContainer(place.agent, mapped, container(options)),
          "INVALID_ARGUMENT",
          new RegExp(`^${field}: a container has its pod's`),
        ),
      );
    }
  });

  test("its user and its groups are among the pod's", { skip }, async () => {
    const as = (more: runtime.v1.ILinuxContainerSecurityContext) =>
      createContainer(place.agent, mapped, { linux: { security_context: more } });
    const value = 65_536 as never;
    for (const [more, sentence] of [
      [{ run_as_user: { value } }, /security_context: the user 65536 is not among the ids 0 to 65535/],
      [{ run_as_user: { value: 1 as never }, run_as_group: { value } }, /security_context: the group 65536/],
      [{ supplemental_groups: [value] }, /security_context: the group 65536/],
    ] as const) {
      await leavesNothing(place, () => fails(as(more as never), "INVALID_ARGUMENT", sentence));
    }
  });

  test("it does not mount on the host", { skip }, async () => {
    const mounts = [{ container_path: "/m", host_path: join(place.agent.paths.base, "volume"), propagation: 2 }];
    await leavesNothing(place, () =>
      fails(createContainer(place.agent, mapped, { mounts }), "INVALID_ARGUMENT", /config\.mounts\[0\]\.propagation/),
    );
  });
});

describe("the mappings of a mount", () => {
  const mount = (more: runtime.v1.IMount) => (): runtime.v1.IContainerConfig => ({
    mounts: [
      {
        container_path: "/m",
        host_path: join(place.agent.paths.base, "volume"),
        uidMappings: [range],
        gidMappings: [range],
        ...more,
      },
    ],
  });
  refusedContainers(place, [
    [
      "users come with groups",
      mount({ gidMappings: [] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.gidMappings: there is no mapping/,
    ],
    [
      "groups come with users",
      mount({ uidMappings: [] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.uidMappings: there is no mapping/,
    ],
    [
      "users are one run",
      mount({ uidMappings: [range, range] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.uidMappings: there are 2/,
    ],
    [
      "a run is not empty",
      mount({ gidMappings: [{ ...range, length: 0 }] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.gidMappings\[0\]\.length/,
    ],
    [
      "a run ends with the last id",
      mount({ gidMappings: [{ ...range, host_id: 4_294_967_295 }] }),
      "INVALID_ARGUMENT",
      /^config\.mounts\[0\]\.gidMappings\[0\]\.host_id/,
    ],
  ]);
});
