/**
 * One file of the Container Device Interface (specification 0.3 to 1.1): what it says, checked. Unknown fields and
 * fields that are newer than the file's own cdiVersion are errors, as the specification wants it.
 */
import * as v from "valibot";
import { hookStages } from "../spec/oci.js";
import { isDeviceName, isKind } from "./names.js";

const versions = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

const path = v.pipe(
  v.string(),
  v.check((text) => text.startsWith("/") && !text.includes("\0"), "is not an absolute path"),
);
const variable = v.pipe(
  v.string(),
  v.check((text) => /^[^=\0]+=[^\0]*$/.test(text), "is not NAME=value"),
);
const number32 = v.pipe(v.number(), v.integer("is no whole number"), v.minValue(0), v.maxValue(0xffff_ffff));
const annotations = v.record(v.string(), v.string());

const deviceNode = v.strictObject({
  path,
  hostPath: v.optional(path),
  type: v.optional(v.picklist(["", "b", "c", "u", "p"], "is not b, c, u or p")),
  major: v.optional(number32),
  minor: v.optional(number32),
  fileMode: v.optional(number32),
  permissions: v.optional(v.pipe(v.string(), v.regex(/^[rwm]{0,3}$/, "is not made of r, w and m"))),
  uid: v.optional(number32),
  gid: v.optional(number32),
});

const mount = v.strictObject({
  hostPath: v.pipe(v.string(), v.minLength(1, "is empty")),
  containerPath: path,
  options: v.optional(v.array(v.string())),
  type: v.optional(v.string()),
});

const hook = v.strictObject({
  hookName: v.picklist(hookStages, "is no hook of the OCI runtime specification"),
  path,
  args: v.optional(v.array(v.string())),
  env: v.optional(v.array(variable)),
  timeout: v.optional(number32),
});

const edits = v.strictObject({
  env: v.optional(v.array(variable)),
  deviceNodes: v.optional(v.array(deviceNode)),
  netDevices: v.optional(v.array(v.strictObject({ hostInterfaceName: v.string(), name: v.string() }))),
  hooks: v.optional(v.array(hook)),
  mounts: v.optional(v.array(mount)),
  intelRdt: v.optional(
    v.strictObject({
      closID: v.optional(v.string()),
      l3CacheSchema: v.optional(v.string()),
      memBwSchema: v.optional(v.string()),
      schemata: v.optional(v.array(v.string())),
      enableMonitoring: v.optional(v.boolean()),
      enableCMT: v.optional(v.boolean()),
      enableMBM: v.optional(v.boolean()),
    }),
  ),
  additionalGids: v.optional(v.array(number32)),
});

const schema = v.strictObject({
  cdiVersion: v.picklist(versions, `is none of ${versions.join(", ")}`),
  kind: v.pipe(v.string(), v.check(isKind, "is not vendor/class")),
  annotations: v.optional(annotations),
  devices: v.pipe(
    v.array(
      v.strictObject({
        name: v.pipe(v.string(), v.check(isDeviceName, "is no name of a device")),
        annotations: v.optional(annotations),
        containerEdits: edits,
      }),
    ),
    v.check((devices) => new Set(devices.map(({ name }) => name)).size === devices.length, "name one device twice"),
  ),
  containerEdits: v.optional(edits),
});

export type CdiSpec = v.InferOutput<typeof schema>;
export type CdiEdits = v.InferOutput<typeof edits>;

/** @throws Error whose message says what is wrong with which field */
export function checkCdiSpec(content: unknown): CdiSpec {
  const result = v.safeParse(schema, content);
  if (!result.success) {
    const [issue] = result.issues;
    throw new Error(`${v.getDotPath(issue) ?? "the file"}: ${issue.message}`);
  }
  const needed = neededVersion(result.output);
  if (versions.indexOf(needed) > versions.indexOf(result.output.cdiVersion)) {
    throw new Error(`cdiVersion: it is ${result.output.cdiVersion}, but what the file says needs ${needed}`);
  }
  return result.output;
}

/** The oldest version in which all that the file says is known. */
function neededVersion(spec: CdiSpec): string {
  const all = [...spec.devices.map(({ containerEdits }) => containerEdits), spec.containerEdits ?? {}];
  const some = (has: (edits: CdiEdits) => unknown): boolean => all.some((part) => Boolean(has(part)));
  if (some(({ netDevices, intelRdt }) => netDevices || intelRdt?.schemata || intelRdt?.enableMonitoring))
    return "1.1.0";
  if (some(({ additionalGids, intelRdt }) => additionalGids || intelRdt)) return "0.7.0";
  const annotated = spec.annotations !== undefined || spec.devices.some((device) => device.annotations !== undefined);
  if (annotated || spec.kind.split("/")[1]?.includes(".")) return "0.6.0";
  const hasHostPath = some(({ deviceNodes }) => deviceNodes?.some(({ hostPath }) => hostPath !== undefined));
  if (hasHostPath || spec.devices.some(({ name }) => /^[0-9]/.test(name))) return "0.5.0";
  if (some(({ mounts }) => mounts?.some(({ type }) => type !== undefined))) return "0.4.0";
  return "0.3.0";
}
