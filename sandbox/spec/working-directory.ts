import type { ContainerConfig } from "../container.js";
import type { ImageDefaults } from "../image-config.js";
import { absolutePath } from "./paths.js";

/** Where the program starts: the request's, else the image's, else "/". */
export function workingDirectory(config: ContainerConfig, image: ImageDefaults): string {
  if (config.working_dir) return absolutePath(config.working_dir, "config.working_dir");
  // images were seen with a relative one; it is meant from the root
  return image.WorkingDir === "" ? "/" : absolutePath(`/${image.WorkingDir}`, "the image's WorkingDir");
}
