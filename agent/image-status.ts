import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { ImageRecord } from "./images/image-store.js";
import { toInt64, toUint64 } from "./states.js";

/** An image as the CRI's lists and statuses show it. */
export function describeImage(image: ImageRecord): proto.v1.IImage {
  return {
    id: image.id,
    repo_tags: image.repoTags,
    repo_digests: image.repoDigests,
    size: toUint64(image.sizeBytes).value,
    pinned: image.pinned,
    ...imageUser(image.config.config.User),
  };
}

/** The user that the image names, as a number or as a name; its group is not asked for. */
function imageUser(user: string): Pick<proto.v1.IImage, "uid" | "username"> {
  const name = user.split(":")[0] ?? "";
  if (name === "") return {};
  return /^[0-9]{1,18}$/.test(name) ? { uid: { value: toInt64(name) } } : { username: name };
}
