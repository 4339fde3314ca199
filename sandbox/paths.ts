import { join } from "node:path";

/** Where a node keeps what it has. */
export interface NodePaths {
  /** /run/berth: sockets, pods' run directories */
  run: string;
  /** /var/lib/berth: what survives a reboot */
  root: string;
  /** /run/netns */
  netns: string;
}

/** <run>/pods/<id>: the monitor's socket and log, the exit files, and the files that Berth makes for the pod. */
export function podDirectory(paths: NodePaths, podId: string): string {
  return join(paths.run, "pods", podId);
}

/** The socket of the pod's monitor. */
export function monitorSocketPath(paths: NodePaths, podId: string): string {
  return join(podDirectory(paths, podId), "m");
}
