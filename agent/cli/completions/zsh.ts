import { allNodes, type TreeNode } from "./tree.js";

/** Commands and options with what they do; where neither fits, zsh offers files. */
export function zshCompletion(root: TreeNode): string {
  const nodes = allNodes(root);
  const paths = nodes.filter(({ path }) => path !== "").map(({ path }) => `"${path}"`);
  const words = nodes.map((node) => {
    const commands = node.children.map(({ name, description }) => described(name, description));
    const options = node.options.flatMap(({ short, long, description }) =>
      [short, long].filter((word) => word !== undefined).map((word) => described(word, description)),
    );
    return `  ("${node.path}") commands=(${commands.join(" ")}); options=(${options.join(" ")}) ;;`;
  });
  return `#compdef berth
local place="" next word
local -a commands options
for word in "\${(@)words[2,CURRENT-1]}"; do
  next="\${place:+$place }$word"
  case "$next" in
    (${paths.join("|")}) place="$next" ;;
  esac
done
case "$place" in
${words.join("\n")}
esac
if [[ "$PREFIX" == -* ]]; then
  _describe -o option options
elif (( $#commands )); then
  _describe command commands
else
  _files
fi
`;
}

function described(word: string, description: string): string {
  return `'${`${word.replaceAll(":", "\\:")}:${description}`.replaceAll("'", "'\\''")}'`;
}
