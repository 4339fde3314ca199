/** Names of the Container Device Interface: vendor/class=name, from a request's CDI_devices and annotations. */
import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError } from "../errors.js";

const annotationPrefix = "cdi.k8s.io/";

const vendorPattern = /^[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?$/;
const classPattern = vendorPattern;
const devicePattern = /^[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?$/;

export interface AskedDevice {
  /** "vendor.com/class=name" */
  name: string;
  /** where it was asked for, for errors */
  field: string;
}

/** "vendor.com/class", what a specification file is about. */
export function isKind(kind: string): boolean {
  const [vendor, deviceClass, ...rest] = kind.split("/");
  return rest.length === 0 && vendorPattern.test(vendor ?? "") && classPattern.test(deviceClass ?? "");
}

export function isDeviceName(name: string): boolean {
  return devicePattern.test(name);
}

function isQualified(name: string): boolean {
  const equals = name.indexOf("=");
  return equals > 0 && isKind(name.slice(0, equals)) && isDeviceName(name.slice(equals + 1));
}

/**
 * The devices that a container asks for, each once, in order: the CRI's own field first, then annotations
 * `cdi.k8s.io/*`, whose values are names with commas between them.
 * @throws InvalidArgumentError that names the field of a name that is none
 */
export function askedDevices(config: ContainerConfig): AskedDevice[] {
  const byField = (config.CDI_devices ?? []).map(
    (device, index): AskedDevice => ({ name: device.name ?? "", field: `config.CDI_devices[${index}].name` }),
  );
  const byAnnotation = Object.entries(config.annotations ?? {})
    .filter(([key]) => key.startsWith(annotationPrefix))
    .flatMap(([key, value]) =>
      value.split(",").map((name): AskedDevice => ({ name, field: `config.annotations[${JSON.stringify(key)}]` })),
    );
  const asked = new Map<string, AskedDevice>();
  for (const device of [...byField, ...byAnnotation]) {
    if (!isQualified(device.name)) {
      throw new InvalidArgumentError(
        `${device.field}: ${JSON.stringify(device.name)} is no CDI device name (vendor/class=name)`,
      );
    }
    if (!asked.has(device.name)) asked.set(device.name, device);
  }
  return [...asked.values()];
}
