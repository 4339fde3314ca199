/** What `Version` tells, and the names by which a RuntimeClass reaches this runtime. */
export const runtimeName = "berth";
export const runtimeVersion = "0.1.0";
/** of the CRI */
export const apiVersion = "v1";
/** the kubelet's runtime API, a number that never changed */
export const kubeletApiVersion = "0.1.0";
