/** The map of namespaces as text: a table with a row a process, or a tree with a branch a namespace. */
import { printable, printTable } from "../output.js";
import { type Kind, kinds, type PodNamespaces, type ProcessNamespaces } from "./map.js";

export function printTables(pods: readonly PodNamespaces[]): void {
  pods.forEach((pod, index) => {
    process.stdout.write(`${index === 0 ? "" : "\n"}${titleOf(pod)}\n`);
    printTable(
      ["PROCESS", "PID", ...kinds.map((kind) => kind.toUpperCase())],
      pod.processes.map((process) => [
        process.name,
        String(process.pid),
        ...kinds.map((kind) => process.namespaces[kind]?.owner ?? "-"),
      ]),
    );
  });
}

export function printTrees(pods: readonly PodNamespaces[]): void {
  const lines = pods.flatMap((pod) => [
    titleOf(pod),
    ...branches(
      kinds.flatMap((kind) =>
        sharersOf(pod, kind).map(({ inode, owner, processes }) => ({
          text: `${kind} ${inode}, ${words[owner]}`,
          below: processes.map(({ name, pid }) => ({ text: `${printable(name)} (${pid})`, below: [] })),
        })),
      ),
    ),
  ]);
  process.stdout.write(lines.map((line) => `${line}\n`).join(""));
}

export function titleOf({ namespace, name, id }: PodNamespaces): string {
  return printable(`${namespace}/${name} (${id.slice(0, 12)})`);
}

const words = {
  host: "the host's",
  pod: "the pod's",
  "another pod": "another pod's",
  own: "its own",
} as const;

interface Sharers {
  inode: string;
  owner: keyof typeof words;
  processes: ProcessNamespaces[];
}

/** The pod's namespaces of a kind, each with the processes that are in it. */
export function sharersOf({ processes }: PodNamespaces, kind: Kind): Sharers[] {
  const found = new Map<string, Sharers>();
  for (const process of processes) {
    const namespace = process.namespaces[kind];
    if (namespace === undefined) continue;
    const sharers = found.get(namespace.inode) ?? { ...namespace, processes: [] };
    sharers.processes.push(process);
    found.set(namespace.inode, sharers);
  }
  return [...found.values()];
}

interface Branch {
  text: string;
  below: Branch[];
}

function branches(all: readonly Branch[]): string[] {
  return all.flatMap(({ text, below }, index) => {
    const isLast = index === all.length - 1;
    return [`${isLast ? "└─" : "├─"} ${text}`, ...branches(below).map((line) => `${isLast ? "  " : "│ "} ${line}`)];
  });
}
