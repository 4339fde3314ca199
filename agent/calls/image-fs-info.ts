import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { NotFoundError } from "../../sandbox/errors.js";
import type { DiskUsage } from "../../sandbox/rootfs/snapshots.js";
import type { Runtime } from "../runtime.js";
import { toInt64, toUint64 } from "../states.js";

/** What the images' layers take, and what the containers have written, each in its directory. */
export async function imageFsInfo(
  { node }: Runtime,
  _request: proto.v1.IImageFsInfoRequest,
): Promise<proto.v1.IImageFsInfoResponse> {
  const { snapshots } = node;
  const containers = node.containers.list().map((container) => container.record.id);
  const usages = await Promise.all(containers.map((id) => snapshots.writableLayerUsage(id).catch(unlessGone)));
  const images = snapshots.imageFsUsage();
  const written = { bytes: 0, inodes: 0, timestamp: images.timestamp };
  for (const usage of usages) {
    // what is not known yet is not counted yet
    written.bytes += usage?.bytes ?? 0;
    written.inodes += usage?.inodes ?? 0;
  }
  return {
    image_filesystems: [filesystemUsage(snapshots.imageDirectory, images)],
    container_filesystems: [filesystemUsage(snapshots.directory, written)],
  };
}

/** A container that is removed at this moment takes up nothing; whoever asks about the node is not told of it. */
function unlessGone(error: unknown): undefined {
  if (error instanceof NotFoundError) return undefined;
  throw error;
}

function filesystemUsage(mountpoint: string, usage: DiskUsage): proto.v1.IFilesystemUsage {
  return {
    timestamp: toInt64(usage.timestamp),
    fs_id: { mountpoint },
    used_bytes: toUint64(usage.bytes),
    inodes_used: toUint64(usage.inodes),
  };
}
