import { commandTree } from "../commands.js";
import { bashCompletion } from "./bash.js";
import { fishCompletion } from "./fish.js";
import { treeOf } from "./tree.js";
import { zshCompletion } from "./zsh.js";

const writers = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };

/** Made of all commands as they are: `berth completion`, and the package. */
export async function completionScript(shell: keyof typeof writers): Promise<string> {
  return writers[shell](treeOf(await commandTree(null)));
}
