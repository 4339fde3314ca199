import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { NotFoundError } from "../../sandbox/errors.js";
import { tagOf } from "../images/import.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth image tag`. The tag leaves another image that had it. */
export async function tagImage(
  { images }: Runtime,
  request: proto.v1.TagImageRequest,
): Promise<proto.v1.ITagImageResponse> {
  const name = required(request.image, "image");
  const tag = tagOf(required(request.name, "name"));
  const found = images.store.find(name);
  if (found === undefined) throw new NotFoundError(`image "${name}" is not on this node`);
  await images.store.put({ ...found, repoTags: [tag] });
  return { id: found.id, name: tag };
}
