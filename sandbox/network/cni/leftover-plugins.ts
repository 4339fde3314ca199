/**
 * Plugins that an agent which was killed has left running. One that is still adding an attachment would finish it after
 * the next agent has taken it away, one that takes it away would do so beside the next agent's, and one that collects
 * garbage does not know the pods of the next agent.
 */
import { endLeftoverProcesses } from "../../leftover-processes.js";

/**
 * `isLeft` is given what the plugin was given. Kills them and waits for their end.
 * @throws InternalError: one does not end
 */
export function endLeftoverPlugins(isLeft: (environment: ReadonlyMap<string, string>) => boolean): Promise<void> {
  return endLeftoverProcesses("CNI plugins", isLeft);
}
