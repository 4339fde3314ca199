import type { Mount } from "../../../sandbox/spec/oci.js";
import { byDefault, type Fact, fact, type Section, type Subject } from "./fact.js";

const context = "linux.security_context";

export function fileFacts({ spec, config }: Subject): Section {
  const facts: Fact[] = [
    fact(
      `its root is the image's layers, with ${spec.root.readonly ? "nothing writable above them" : "a writable one above them"}`,
      spec.root.readonly ? `image, and ${context}.readonly_rootfs` : "image",
      spec.root.readonly ? "fsmount() of an overlay, mount_setattr(MOUNT_ATTR_RDONLY)" : "fsmount() of an overlay",
    ),
    ...spec.mounts.map((mount) => mountFact(mount, config)),
  ];
  const { maskedPaths, readonlyPaths } = spec.linux;
  if (maskedPaths.length > 0) {
    facts.push(
      fact(
        `these are empty for it: ${maskedPaths.join(" ")}`,
        config.linux?.security_context?.masked_paths?.length ? `${context}.masked_paths` : byDefault,
        "move_mount() of an empty directory, or of /dev/null",
      ),
    );
  }
  if (readonlyPaths.length > 0) {
    facts.push(
      fact(
        `these cannot be written to: ${readonlyPaths.join(" ")}`,
        config.linux?.security_context?.readonly_paths?.length ? `${context}.readonly_paths` : byDefault,
        "mount_setattr(MOUNT_ATTR_RDONLY)",
      ),
    );
  }
  return { title: "Files: what it finds below /", facts };
}

function mountFact({ destination, type, source, options, uidMappings }: Mount, config: Subject["config"]): Fact {
  const index = (config.mounts ?? []).findIndex(({ container_path }) => container_path === destination);
  const from = index < 0 ? byDefault : `mounts[${index}]`;
  const flags = options.filter((option) => !["bind", "rbind"].includes(option));
  const mapped = uidMappings?.length ? ", with the owners that the pod's user namespace has" : "";
  const how = flags.length > 0 ? ` (${flags.join(", ")})` : "";
  if (type === "bind") {
    return fact(
      `${destination} is ${source} of the host${how}${mapped}`,
      from,
      `open_tree(OPEN_TREE_CLONE), move_mount()`,
    );
  }
  return fact(`${destination} is a ${type} of its own${how}`, from, `fsopen("${type}"), fsmount(), move_mount()`);
}

export function deviceFacts({ spec, config }: Subject): Section {
  const asked = config.devices ?? [];
  const facts = spec.linux.devices.map(({ path, type, major, minor }) => {
    const index = asked.findIndex((device) => device.container_path === path);
    return fact(`${path} (${type} ${major}:${minor})`, index < 0 ? byDefault : `devices[${index}]`, "mknodat()");
  });
  const rules = spec.linux.resources.devices ?? [];
  const allowed = rules.filter((rule) => rule.allow);
  const everything = allowed.some((rule) => (rule.type ?? "a") === "a" && rule.major === undefined);
  facts.push(
    fact(
      everything ? "it may use every device" : `it may use ${allowed.length} kinds of device, and no other`,
      config.linux?.security_context?.privileged ? `${context}.privileged` : "devices",
      "devices.allow and devices.deny (cgroup v1); bpf(BPF_PROG_TYPE_CGROUP_DEVICE) (v2)",
    ),
  );
  return { title: "Devices", facts };
}
