/** The map of namespaces as a picture: SVG to look at, or a graph for Graphviz. */
import { printable } from "../output.js";
import { type Kind, kinds, type PodNamespaces } from "./map.js";
import { sharersOf, titleOf } from "./text.js";

const column = 92;
const row = 30;
const firstColumn = 220;
/** calm colours for the pod's own namespaces, one after the other; the host's are grey */
const palette = ["#8ecae6", "#ffb703", "#90be6d", "#f28482", "#cdb4db", "#b5c99a", "#f6bd60", "#84a59d"];
const hostColour = "#dddddd";

/** A column a kind, a row a process; neighbours of one colour in a column share the namespace. */
export function svgOf(pods: readonly PodNamespaces[]): string {
  const colours = new Map<string, string>();
  const parts: string[] = [];
  let y = row;
  for (const pod of pods) {
    parts.push(text(8, y, titleOf(pod), "bold"));
    y += row;
    parts.push(...kinds.map((kind, index) => text(firstColumn + index * column + 8, y, kind, "bold")));
    for (const { name, pid, namespaces } of pod.processes) {
      y += row;
      parts.push(text(8, y, printable(`${name} (${pid})`)));
      kinds.forEach((kind, index) => {
        const namespace = namespaces[kind];
        if (namespace === undefined) return;
        const { inode, owner } = namespace;
        const key = `${kind} ${inode}`;
        if (!colours.has(key)) {
          colours.set(key, owner === "host" ? hostColour : (palette[colours.size % palette.length] ?? hostColour));
        }
        const x = firstColumn + index * column;
        parts.push(
          `<rect x="${x}" y="${y - 20}" width="${column - 6}" height="${row}" fill="${colours.get(key)}"><title>${key}</title></rect>`,
          text(x + 8, y, owner),
        );
      });
    }
    y += 2 * row;
  }
  const width = firstColumn + kinds.length * column;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" font-family="sans-serif" font-size="13">`,
    "<title>Which processes share which namespaces</title>",
    `<rect width="${width}" height="${y}" fill="white"/>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}

/** Boxes for processes, ellipses for namespaces: `berth namespaces --dot | dot -Tsvg`. */
export function dotOf(pods: readonly PodNamespaces[]): string {
  const namespaces = new Map<string, string>();
  const lines = pods.flatMap((pod, index) => [
    `  subgraph cluster_${index} { label=${quoted(titleOf(pod))};`,
    ...pod.processes.map(({ name, pid }) => `    p${pid} [shape=box, label=${quoted(`${plain(name)}\\n${pid}`)}];`),
    "  }",
    ...kinds.flatMap((kind) =>
      sharersOf(pod, kind).flatMap(({ inode, owner, processes }) => {
        const node = nodeOf(kind, inode);
        namespaces.set(node, `  ${node} [label=${quoted(`${kind}\\n${owner === "host" ? "the host's" : inode}`)}];`);
        return processes.map(({ pid }) => `  p${pid} -- ${node};`);
      }),
    ),
  ]);
  return ["graph namespaces {", "  rankdir=LR;", ...lines, ...namespaces.values(), "}\n"].join("\n");
}

function nodeOf(kind: Kind, inode: string): string {
  return `n_${kind}_${inode}`;
}

function text(x: number, y: number, content: string, weight = "normal"): string {
  return `<text x="${x}" y="${y}" font-weight="${weight}">${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A program may call itself what it likes. */
function plain(name: string): string {
  return printable(name).replaceAll("\\", "\\\\");
}

/** `\n` stays a line's end to Graphviz. */
function quoted(content: string): string {
  return `"${content.replaceAll('"', '\\"')}"`;
}
