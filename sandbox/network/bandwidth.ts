/** The annotations that limit a pod's bandwidth, as the kubelet and the CNI plugins know them. Pure. */
import { InvalidArgumentError } from "../errors.js";

/** Bits a second. */
export interface Bandwidth {
  /** to the pod */
  ingress?: number;
  /** from the pod */
  egress?: number;
}

/** None: there is no limit. InvalidArgumentError names the annotation that is malformed. */
export function bandwidthOf(annotations: Readonly<Record<string, string>>): Bandwidth | undefined {
  const ingress = rate(annotations, "kubernetes.io/ingress-bandwidth");
  const egress = rate(annotations, "kubernetes.io/egress-bandwidth");
  if (ingress === undefined && egress === undefined) return undefined;
  return { ...(ingress !== undefined && { ingress }), ...(egress !== undefined && { egress }) };
}

const units: Readonly<Record<string, number>> = {
  "": 1,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** A quantity as Kubernetes reads them ("10M", "1.5Gi", "1e7"); 1k to 1P, as the kubelet has it. */
function rate(annotations: Readonly<Record<string, string>>, name: string): number | undefined {
  const text = annotations[name];
  if (text === undefined) return undefined;
  const [, number, unit = "", exponent = "0"] =
    /^\+?(\d+\.?\d*|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,3}))?$/.exec(text) ?? [];
  const value = number === undefined ? Number.NaN : Number(`${number}e${exponent}`) * (units[unit] ?? Number.NaN);
  if (!(value >= 1e3 && value <= 1e15)) {
    throw new InvalidArgumentError(
      `config.annotations["${name}"]: ${JSON.stringify(text)} is no rate between 1k and 1P bits a second`,
    );
  }
  return Math.ceil(value);
}
