import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { messageOf } from "../../sandbox/errors.js";
import { findLeaks as findOnNode } from "../../sandbox/leaks/find-leaks.js";
import type { Leak } from "../../sandbox/leaks/leak.js";
import type { Runtime } from "../runtime.js";

/** `berth leaks [--repair]`. One thing that cannot be taken away does not keep the others. */
export async function findLeaks(
  runtime: Runtime,
  { repair }: proto.v1.FindLeaksRequest,
): Promise<proto.v1.IFindLeaksResponse> {
  const leaks: proto.v1.ILeak[] = [];
  for (const leak of [...(await findOnNode(runtime.node)), ...leakedLayers(runtime)]) {
    const { kind, subject, what, ours } = leak;
    leaks.push({ kind, subject, what, ours, ...(repair && (await outcomeOf(runtime, leak))) });
  }
  return { leaks };
}

function leakedLayers({ images, node }: Runtime): Leak[] {
  return images.store.unneeded().map((chainId) => ({
    kind: "layer",
    subject: `${node.snapshots.imageDirectory}: ${chainId}`,
    what: "a layer that is no image's and no container's",
    ours: true,
    repair: () => images.store.collect(),
  }));
}

async function outcomeOf({ node }: Runtime, leak: Leak): Promise<Pick<proto.v1.ILeak, "repaired" | "why_not">> {
  try {
    await leak.repair();
    node.observer.emit({
      type: "repaired",
      what: `${leak.kind} of nobody`,
      subject: `${leak.subject}: ${leak.what}`,
    });
    return { repaired: true };
  } catch (error) {
    return { why_not: messageOf(error) };
  }
}
