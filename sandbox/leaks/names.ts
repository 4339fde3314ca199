/** What has a name in a file system: pins of network namespaces, mounts, run directories, containers' directories. */
import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { native } from "../../native/binding.js";
import { FailedPreconditionError } from "../errors.js";
import { parseMountInfo } from "../mount-info.js";
import type { NodePaths } from "../paths.js";
import type { Snapshots } from "../rootfs/snapshots.js";
import { isYoung, type Known, type Leak } from "./leak.js";

const pin = /^berth-([0-9a-f]{64})$/;

/** @param pending pods whose plugins still need the namespace */
export function leakedPins({ netns }: NodePaths, known: Known, pending: ReadonlySet<string>): Leak[] {
  return namesIn(netns).flatMap((name): Leak[] => {
    const id = pin.exec(name)?.[1];
    const path = join(netns, name);
    if (id === undefined || known.pods.has(id) || pending.has(id) || known.foreign.has(id)) return [];
    const ours = known.isOurs(id);
    const status = statSync(path, { throwIfNoEntry: false });
    if (status === undefined || (!ours && isYoung(status))) return [];
    const what = `the network namespace of pod ${id}, which is not known`;
    return [{ kind: "namespace", subject: path, what, ours, repair: () => native.unpinNamespace(path) }];
  });
}

/** In the host's mount namespace; below what leakedDirectories() finds, which must not be entered while they are there. */
export function leakedMounts({ run, root }: NodePaths, known: Known): Leak[] {
  const places = [
    { parent: join(run, "pods"), isKnown: (id: string) => known.pods.has(id) },
    { parent: join(root, "containers"), isKnown: known.isContainer },
  ];
  return hostMounts()
    .filter((path) =>
      places.some(({ parent, isKnown }) => {
        if (!path.startsWith(`${parent}/`)) return false;
        const [name = ""] = path.slice(parent.length + 1).split("/");
        // what begins with a dot is being removed, or is the storage driver's
        return !name.startsWith(".") && !isKnown(name);
      }),
    )
    .reverse()
    .map((path) => ({
      kind: "mount",
      subject: path,
      what: "a mount in a directory of a pod or a container that is not known",
      ours: true,
      repair: () => native.unmount(path),
    }));
}

export function leakedRunDirectories({ run }: NodePaths, known: Known): Leak[] {
  const pods = join(run, "pods");
  return namesIn(pods)
    .filter((name) => !known.pods.has(name))
    .map((name) => ({
      kind: "directory",
      subject: join(pods, name),
      what: "the run directory of a pod that is not known",
      ours: true,
      repair: async () => {
        refuseMounts(join(pods, name));
        rmSync(join(pods, name), { recursive: true, force: true });
      },
    }));
}

/** Containers' root file systems: of containers that are not known, and what a removal could not delete. */
export async function leakedRootfs(
  snapshots: Pick<Snapshots, "directory" | "listRootfs" | "leftovers" | "removeRootfs" | "discard">,
  isContainer: (id: string) => boolean,
): Promise<Leak[]> {
  const before = new Set(await snapshots.listRootfs());
  // a removal that runs takes the directory away before the record
  const orphans = (await snapshots.listRootfs()).filter((id) => before.has(id) && !isContainer(id));
  const leak = (name: string, what: string, remove: (name: string) => Promise<void>): Leak => {
    const path = join(snapshots.directory, name);
    const repair = async () => {
      refuseMounts(path);
      await remove(name);
    };
    return { kind: "directory", subject: path, what, ours: true, repair };
  };
  return [
    ...orphans.map((id) => leak(id, "it is no container's root file system", (name) => snapshots.removeRootfs(name))),
    ...(await snapshots.leftovers()).map((leftover) =>
      leak(leftover, "a removed container's root file system was not deleted", (name) => snapshots.discard(name)),
    ),
  ];
}

/** Deleting a tree would go on in what is mounted there, which may be the host's. */
function refuseMounts(path: string): void {
  const inside = hostMounts().find((mountPoint) => mountPoint.startsWith(`${path}/`));
  if (inside !== undefined) throw new FailedPreconditionError(`${inside} is mounted in it; unmount it first`);
}

function hostMounts(): string[] {
  return parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8")).map(({ mountPoint }) => mountPoint);
}

/** Of a directory; none when it is not there. */
export function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    // there is none before the first pod
    return [];
  }
}
