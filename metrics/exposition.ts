/** The metrics of one node: made anew for each answer, so that what is gone has no series. */
import type { ObservedNode } from "./collect.js";
import { type FinishedCall, openOwnSeries } from "./own.js";
import { type PodLabel, podLabelText } from "./pod-labels.js";
import { type Subject, subjectLabels, subjectsOf } from "./subjects.js";
import { labelText, type TextFormat, writeText } from "./text.js";

export interface Exposition {
  /** the answer in pieces; each is gone when the next is asked for */
  render(format: TextFormat): AsyncGenerator<Buffer>;
  observeCall(call: FinishedCall): void;
  /** stops listening to the node's observer */
  close(): void;
}

export const contentTypes = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
} as const;

export function createExposition(
  node: ObservedNode,
  options: { version: string; podLabels: readonly PodLabel[] },
): Exposition {
  const own = openOwnSeries(node, options.version);
  const labels = labelTexts(options.podLabels);
  return {
    async *render(format) {
      const { openMetrics } = format;
      own.begin();
      const begun = performance.now();
      const subjects = await subjectsOf(node);
      const collectSeconds = (performance.now() - begun) / 1000;
      const rest = async () => (await own.write(openMetrics, collectSeconds)) + (openMetrics ? "# EOF\n" : "");
      yield* writeText(subjects, labels, rest, format);
    },
    observeCall: own.observeCall,
    close: own.close,
  };
}

/** A container's and a pod's never change: they are put together once. */
function labelTexts(podLabels: readonly PodLabel[]): (subject: Subject) => string {
  const texts = new WeakMap<readonly string[], string>();
  return ({ labels, pod }) => {
    let text = texts.get(labels);
    if (text === undefined) {
      text = labelText(subjectLabels, labels) + podLabelText(podLabels, pod);
      texts.set(labels, text);
    }
    return text;
  };
}
