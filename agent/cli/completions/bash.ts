import { allNodes, optionWords, type TreeNode } from "./tree.js";

/** Commands and options; where neither fits, bash offers files. */
export function bashCompletion(root: TreeNode): string {
  const nodes = allNodes(root);
  const paths = nodes.filter(({ path }) => path !== "").map(({ path }) => `"${path}"`);
  const words = nodes.map((node) => {
    const commands = node.children.map(({ name }) => name);
    return `    "${node.path}") commands="${commands.join(" ")}" options="${optionWords(node).join(" ")}" ;;`;
  });
  return `# bash completion for berth
_berth() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path="" next commands="" options="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="\${path:+$path }\${COMP_WORDS[i]}"
    case "$next" in
      ${paths.join("|")}) path="$next" ;;
    esac
  done
  case "$path" in
${words.join("\n")}
  esac
  if [[ "$current" == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
  fi
}
complete -o default -F _berth berth
`;
}
