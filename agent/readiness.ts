/** What /readyz asks: whether the kubelet could start a pod now. */
import type { Check } from "../metrics/health.js";
import { withClient } from "./cli/client.js";
import type { Condition } from "./doctor.js";
import type { Runtime } from "./runtime.js";

const patienceMs = 3_000;

/** The metrics server begins when all records are read: that the state is recovered needs no check of its own. */
export function readinessOf(runtime: Runtime, isEnding: () => boolean): Check[] {
  const condition = async (type: Condition): Promise<string | null> => {
    const broken = (await runtime.examine()).find(({ breaks }) => breaks === type);
    return broken === undefined ? null : `${broken.what}: ${broken.consequence}. ${broken.remedy}`;
  };
  return [
    { name: "serving", run: () => (isEnding() ? "the agent ends" : null) },
    {
      name: "cri",
      // over the socket, as the kubelet comes: it may have been removed, or be another's by now
      run: () =>
        withClient({ socket: runtime.config.listen }, async (client) => {
          await client.call("Version", {}, patienceMs);
          return null;
        }),
    },
    { name: "runtime", run: () => condition("RuntimeReady") },
    { name: "network", run: () => condition("NetworkReady") },
  ];
}
