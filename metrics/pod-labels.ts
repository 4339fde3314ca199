/** Labels of pods that their series have beside cAdvisor's own: those that the administrator chose, under the names he chose. */
import { InvalidArgumentError } from "../sandbox/errors.js";
import type { Pod } from "../sandbox/pod.js";
import { families } from "./families.js";
import { labelText } from "./text.js";

export interface PodLabel {
  /** the pod's: "app.kubernetes.io/name" */
  key: string;
  /** the series': "label_app_kubernetes_io_name", as kube-state-metrics has it, or another that was given */
  name: string;
}

/** Each is on every series of every pod. */
const mostLabels = 16;
/** Kubernetes' own have 63; who else fills them need not be as careful. */
const longestValue = 128;

const taken: ReadonlySet<string> = new Set(["le", "quantile", ...families.flatMap(({ labels }) => labels)]);

/** "app,app.kubernetes.io/name=application". @throws InvalidArgumentError */
export function parsePodLabels(text: string): PodLabel[] {
  const labels: PodLabel[] = [];
  for (const entry of text.split(",").map((part) => part.trim())) {
    if (entry === "") continue;
    const [key = "", name = `label_${key.replaceAll(/[^A-Za-z0-9_]/g, "_")}`, ...more] = entry.split("=");
    if (more.length > 0 || !/^[A-Za-z0-9][A-Za-z0-9._/-]*$/.test(key))
      refuse(`"${entry}" is no pod label, nor LABEL=NAME`);
    if (!/^(?!__)[A-Za-z_][A-Za-z0-9_]*$/.test(name)) refuse(`"${name}" is no name for a label`);
    if (taken.has(name)) refuse(`"${name}" is a label that series have already`);
    if (labels.some((label) => label.name === name)) refuse(`two labels would be called "${name}"`);
    labels.push({ key, name });
  }
  if (labels.length > mostLabels) refuse(`more than ${mostLabels} labels`);
  return labels;
}

function refuse(why: string): never {
  throw new InvalidArgumentError(`has a mistake: ${why}`);
}

/** `,name="value"` of those that the pod has; empty: none. */
export function podLabelText(labels: readonly PodLabel[], { config }: Pick<Pod, "config">): string {
  let text = "";
  for (const { key, name } of labels) {
    const value = config.labels?.[key];
    if (value) text += `,${labelText([name], [value.slice(0, longestValue)])}`;
  }
  return text;
}
