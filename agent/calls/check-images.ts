import Long from "long";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { layersInUse } from "../../sandbox/container.js";
import { messageOf } from "../../sandbox/errors.js";
import { checkStore, type StoreProblem } from "../images/check-store.js";
import type { Runtime } from "../runtime.js";

/** `berth image check [--repair]`. */
export async function checkImages(
  { images, node }: Runtime,
  request: proto.v1.ICheckImagesRequest,
  signal: AbortSignal,
): Promise<proto.v1.ICheckImagesResponse> {
  const found = await checkStore(
    {
      images: images.store,
      layers: images.layers,
      snapshots: node.snapshots,
      usersOf: (chainId) =>
        node.containers
          .list()
          .filter(({ record }) => layersInUse(record).includes(chainId))
          .map(({ record }) => record.id),
      isContainer: (id) => node.store.containers.has(id),
    },
    signal,
  );
  const problems: proto.v1.IImageProblem[] = [];
  for (const problem of found.problems) problems.push(request.repair ? await repair(problem) : describe(problem));
  return { images: Long.fromNumber(found.images, true), layers: Long.fromNumber(found.layers, true), problems };
}

function describe({ subject, what }: StoreProblem): proto.v1.IImageProblem {
  return { subject, what };
}

async function repair(problem: StoreProblem): Promise<proto.v1.IImageProblem> {
  try {
    await problem.repair();
    return { ...describe(problem), repaired: true };
  } catch (error) {
    return { ...describe(problem), why_not: messageOf(error) };
  }
}
