import type { SandboxNode } from "../../sandbox/node.js";
import type { Images } from "./images.js";

/** Somebody has let go of layers: those of an image that was removed meanwhile go, in the background. */
export function collectOwed({ node, images }: { node: Pick<SandboxNode, "observer">; images: Images }): void {
  images.store.collectOwed().catch((error: unknown) => {
    node.observer.emit({ type: "trouble", what: "remove layers that nobody needs", subject: "images", error });
  });
}
