/** Whole specs against files. UPDATE_GOLDEN=1 writes them anew; the difference is to be read before it is committed. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { buildSpec, type SpecInput } from "./build-spec.js";
import { containerConfig, image, podConfig, specInput } from "./spec-fixtures.js";

// the compiled test runs from dist/sandbox/spec
const goldenDirectory = join(dirname(fileURLToPath(import.meta.url)), "../../../sandbox/spec/golden");

const kubelet = {
  namespace_options: { pid: "CONTAINER" },
  masked_paths: ["/proc/kcore", "/sys/firmware"],
  readonly_paths: ["/proc/sys"],
  seccomp: { profile_type: "RuntimeDefault" },
};

const ids = [{ container_id: 0, host_id: 100_000, length: 65_536 }];

const privilegedPod = podConfig({ linux: { security_context: { privileged: true } } });

const cases: Record<string, SpecInput> = {
  default: specInput(),
  privileged: specInput({
    config: containerConfig({ linux: { security_context: { ...kubelet, privileged: true } } }),
    podConfig: privilegedPod,
    hostFiles: {
      devices: [{ path: "/dev/loop0", type: "b", major: 7, minor: 0, fileMode: 0o660, uid: 0, gid: 6, access: "rwm" }],
      seccompProfile: null,
      apparmorProfile: null,
    },
  }),
  limits: specInput({
    config: containerConfig({
      linux: {
        security_context: { ...kubelet, seccomp: { profile_type: "Unconfined" } },
        resources: {
          cpu_period: 100_000,
          cpu_quota: 50_000,
          cpu_shares: 512,
          cpuset_cpus: "0-1",
          memory_limit_in_bytes: 104_857_600,
          oom_score_adj: -997,
          hugepage_limits: [{ page_size: "2MB", limit: 4_194_304 }],
          unified: { "pids.max": "64" },
        },
      },
    }),
  }),
  tty: specInput({
    config: containerConfig({ command: ["sh"], args: ["-i"], tty: true, stdin: true, working_dir: "/srv/" }),
    image: image({ Env: ["PATH=/bin", "LANG=C"], Entrypoint: ["/entry"], Cmd: ["x"] }),
  }),
  user: specInput({
    config: containerConfig({
      envs: [{ key: "A", value: Buffer.from("1") }],
      mounts: [
        { container_path: "/data/inner", host_path: "/srv/inner", readonly: true },
        { container_path: "/data", host_path: "/srv/data", propagation: "PROPAGATION_HOST_TO_CONTAINER" },
        { container_path: "/etc/hosts", host_path: "/var/lib/kubelet/hosts" },
      ],
      linux: {
        security_context: {
          ...kubelet,
          no_new_privs: true,
          readonly_rootfs: true,
          capabilities: { drop_capabilities: ["ALL"], add_capabilities: ["NET_BIND_SERVICE"] },
        },
      },
    }),
    user: { uid: 1000, gid: 1000, additionalGids: [1000, 1234], home: "/home/user", username: "user" },
  }),
  "user-namespace": specInput({
    config: containerConfig({
      mounts: [{ container_path: "/data", host_path: "/srv/data", uidMappings: ids, gidMappings: ids }],
      linux: { security_context: { ...kubelet, seccomp: { profile_type: "Unconfined" } } },
    }),
    podConfig: podConfig({
      linux: { security_context: { namespace_options: { userns_options: { mode: "POD", uids: ids, gids: ids } } } },
    }),
  }),
  "host-namespaces": specInput({
    podConfig: podConfig({
      hostname: "",
      linux: { security_context: { namespace_options: { network: "NODE", pid: "NODE", ipc: "NODE" } } },
    }),
  }),
};

for (const [name, input] of Object.entries(cases)) {
  test(`the spec of ${name} is as before`, () => {
    const path = join(goldenDirectory, `${name}.json`);
    const text = `${JSON.stringify(buildSpec(input), null, 2)}\n`;
    if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(path, text);
    assert.deepEqual(JSON.parse(text), JSON.parse(readFileSync(path, "utf8")));
  });
}

test("a spec is the same after it was stored as JSON", () => {
  for (const input of Object.values(cases)) {
    const spec = buildSpec(input);
    assert.deepEqual(JSON.parse(JSON.stringify(spec)), spec);
  }
});

test("a privileged container needs a pod that allows it", () => {
  const privileged = containerConfig({ linux: { security_context: { privileged: true } } });
  assert.throws(() => buildSpec(specInput({ config: privileged })), {
    name: "InvalidArgumentError",
    message: /config\.linux\.security_context\.privileged/,
  });
});
