/** The runtime without gRPC: what calls/, cli/ and the metrics server share. */
import type { SandboxNode } from "../sandbox/node.js";
import type { Config } from "./config.js";
import type { Images } from "./images/images.js";

export interface Runtime {
  readonly config: Config;
  readonly node: SandboxNode;
  readonly images: Images;
}
