import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { checkHandlerIsKnown } from "../../sandbox/oci-runtimes.js";
import type { RegistryAuth } from "../images/registry-auth.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

export async function pullImage(
  { images, node }: Runtime,
  request: proto.v1.PullImageRequest,
  signal: AbortSignal,
): Promise<proto.v1.IPullImageResponse> {
  const image = required(request.image, "image");
  const reference = required(image.image, "image.image");
  // the image is the same for all of them
  checkHandlerIsKnown(node, image.runtime_handler ?? "", "image.runtime_handler");
  const { auth } = request;
  const pulled = await images.pull({ reference, signal, ...(auth && { auth: registryAuth(auth) }) });
  return { image_ref: pulled.id };
}

function registryAuth(auth: proto.v1.IAuthConfig): RegistryAuth {
  return {
    username: auth.username ?? "",
    password: auth.password ?? "",
    auth: auth.auth ?? "",
    serverAddress: auth.server_address ?? "",
    identityToken: auth.identity_token ?? "",
    registryToken: auth.registry_token ?? "",
  };
}
