import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Runtime } from "../runtime.js";

const { CGROUPFS: cgroupfs, SYSTEMD: systemd } = proto.v1.CgroupDriver;
const drivers = { cgroupfs, systemd } as const;

/** The kubelet takes the cgroup driver from here, so that the two cannot differ. */
export function runtimeConfig(
  { config }: Runtime,
  _request: proto.v1.IRuntimeConfigRequest,
): proto.v1.IRuntimeConfigResponse {
  return { linux: { cgroup_driver: drivers[config.cgroupDriver] } };
}
