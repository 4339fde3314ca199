import { allNodes, type TreeNode, type TreeOption } from "./tree.js";

/** Commands and options with what they do; where there are no commands, fish offers files. */
export function fishCompletion(root: TreeNode): string {
  const nodes = allNodes(root);
  const paths = nodes.filter(({ path }) => path !== "").map(({ path }) => quoted(path));
  const lines = nodes.flatMap((node) => {
    const here = `complete -c berth -n ${quoted(`test (__berth_place) = "${node.path}"`)}`;
    return [
      ...node.children.map(({ name, description }) => `${here} -f -a ${name} -d ${quoted(description)}`),
      ...node.options.map((option) => `${here} ${switches(option)} -d ${quoted(option.description)}`),
    ];
  });
  return `# fish completion for berth
function __berth_place
  set -l place ""
  set -l given (commandline -opc)
  for word in $given[2..-1]
    set -l next (string trim -- "$place $word")
    if contains -- $next ${paths.join(" ")}
      set place $next
    end
  end
  echo -- $place
end
${lines.join("\n")}
`;
}

function switches({ short, long, takesValue }: TreeOption): string {
  const words = [short && `-s ${short.slice(1)}`, long && `-l ${long.slice(2)}`, takesValue && "-r"];
  return words.filter(Boolean).join(" ");
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
