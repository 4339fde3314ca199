import type { LinuxDevice, LinuxDeviceCgroup } from "./oci.js";

/** A device of the request or, for a privileged container, of the host; read from the host's /dev beforehand. */
export interface HostDevice extends LinuxDevice {
  /** of r, w and m */
  access: string;
  /** it comes with the privilege, nobody named it */
  ofPrivilege?: true;
}

const everybody = 0o666;

/** What every container has. */
const defaultDevices: LinuxDevice[] = [
  character("/dev/null", 1, 3),
  character("/dev/zero", 1, 5),
  character("/dev/full", 1, 7),
  character("/dev/random", 1, 8),
  character("/dev/urandom", 1, 9),
  character("/dev/tty", 5, 0),
];

/** What a container may use besides its devices: making nodes (which it cannot open), /dev/ptmx and its terminals. */
const alwaysAllowed: LinuxDeviceCgroup[] = [
  { allow: true, type: "c", access: "m" },
  { allow: true, type: "b", access: "m" },
  { allow: true, type: "c", major: 5, minor: 2, access: "rwm" },
  { allow: true, type: "c", major: 136, access: "rwm" },
];

function character(path: string, major: number, minor: number): LinuxDevice {
  return { path, type: "c", major, minor, fileMode: everybody, uid: 0, gid: 0 };
}

export interface DeviceOptions {
  privileged: boolean;
  /** /dev comes whole from a volume */
  devIsMounted: boolean;
  ownUserNamespace: boolean;
}

/**
 * The nodes in /dev, the request's in place of ours where both name one path, and the rules of the device cgroup: deny
 * all but these. A privileged container may use every device; with a user namespace it is privileged inside only, and the host's
 * devices stay the host's: it may open those that everybody may.
 */
export function devices(
  requested: readonly HostDevice[],
  { privileged, devIsMounted, ownUserNamespace }: DeviceOptions,
): { nodes: LinuxDevice[]; rules: LinuxDeviceCgroup[] } {
  const byPath = new Map<string, LinuxDevice>(
    devIsMounted ? [] : defaultDevices.map((device) => [device.path, device]),
  );
  for (const device of requested) {
    const { access: _, ofPrivilege, ...node } = device;
    byPath.set(node.path, ofPrivilege && ownUserNamespace ? withoutOwner(node) : node);
  }
  const nodes = [...byPath.values()];
  if (privileged) return { nodes, rules: [{ allow: true, access: "rwm" }] };
  return {
    nodes,
    rules: [
      { allow: false, access: "rwm" },
      ...alwaysAllowed,
      ...defaultDevices.map(
        ({ major, minor }): LinuxDeviceCgroup => ({ allow: true, type: "c", major, minor, access: "rwm" }),
      ),
      ...requested.flatMap(({ type, major, minor, access }): LinuxDeviceCgroup[] =>
        type === "p" ? [] : [{ allow: true, type: type === "b" ? "b" : "c", major, minor, access }],
      ),
    ],
  };
}

function withoutOwner({ uid: _, gid: __, ...device }: LinuxDevice): LinuxDevice {
  return device;
}
