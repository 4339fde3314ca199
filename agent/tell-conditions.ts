/** Says when one of the CRI's conditions becomes false, for another reason than before, or true again. */
import type { Observer } from "../sandbox/observer.js";
import type { Condition, Finding } from "./doctor.js";

const conditions: readonly Condition[] = ["RuntimeReady", "NetworkReady"];

/** What the first findings are is told by whoever starts. */
export function tellConditions(observer: Pick<Observer, "emit">): (findings: readonly Finding[]) => void {
  let told: Map<Condition, string> | undefined;
  return (findings) => {
    const now = new Map<Condition, string>();
    for (const condition of conditions) {
      const broken = findings.find(({ breaks }) => breaks === condition);
      const sentence = broken === undefined ? "" : `${broken.what}: ${broken.consequence}. ${broken.remedy}`;
      now.set(condition, sentence);
      if (told === undefined || told.get(condition) === sentence) continue;
      observer.emit({ type: "condition", condition, isTrue: broken === undefined, sentence });
    }
    told = now;
  };
}
