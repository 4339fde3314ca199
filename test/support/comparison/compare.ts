/** What two runs of one container must have in common, told so that it does not differ by chance; and what may differ. */
import { NamespaceMode } from "../workload.js";
import { deliberate, deliberateRefusals } from "./deliberate.js";
import type { Comparison, SideName } from "./sides.js";

/** The lines that one side has and the other has not: "- " berth's, "+ " runc's. */
export function differences(comparison: Comparison): string[] {
  const { berth, runc } = comparison.sides;
  if (berth.failure !== undefined || runc.failure !== undefined) {
    if (berth.failure !== undefined && runc.failure !== undefined) return [];
    const isDeliberate = deliberateRefusals.some(({ side, failure }) =>
      failure.test(comparison.sides[side].failure ?? ""),
    );
    return isDeliberate ? [] : [`- ${berth.failure ?? "runs"}`, `+ ${runc.failure ?? "runs"}`];
  }
  const unfinished = Object.entries(comparison.sides).filter(([, { facts }]) => !facts.includes("end"));
  // a shell that cannot execute the probe says so by both; its exit code is not known of runc's
  const [unfinishedByOne] = unfinished.length === 1 ? unfinished : [];
  if (unfinishedByOne !== undefined) {
    const [name, { facts }] = unfinishedByOne;
    return [`the probe run by ${name} did not come to its end: ${facts.slice(-2).join(", ")}`];
  }
  const isCompared = (line: string): boolean => unfinished.length === 0 || !line.startsWith("exit code ");
  const ours = told(comparison, "berth").filter(isCompared);
  const theirs = told(comparison, "runc").filter(isCompared);
  return [...without(ours, theirs).map((line) => `- ${line}`), ...without(theirs, ours).map((line) => `+ ${line}`)];
}

function told(comparison: Comparison, side: SideName): string[] {
  const lines = comparison.sides[side].facts.filter(isOfBoth(comparison)).map((line) => renamed(line, comparison));
  const mounts = mountFacts(lines.filter((line) => line.startsWith("mount ")));
  const others = lines.filter((line) => !line.startsWith("mount "));
  return [...mounts, ...others].flatMap((line) => {
    const kept = deliberate.reduce<string | null>(
      (left, { change }) => (left === null ? null : change(left, side, comparison)),
      line,
    );
    return kept === null ? [] : [kept];
  });
}

/** Not what others on the host have made between the two runs. */
function isOfBoth({ request }: Comparison): (line: string) => boolean {
  const sharesIpc = request.pod.linux?.security_context?.namespace_options?.ipc === NamespaceMode.NODE;
  return (line) => !sharesIpc || !line.startsWith("file /dev/shm/");
}

function renamed(line: string, { names, namespaces }: Comparison): string {
  const parts = /^namespace (\S+) (\S+)$/.exec(line);
  if (parts) {
    const [, type = "", link = ""] = parts;
    const base = type.replace("_for_children", "");
    if (link === namespaces.host[base]) return `namespace ${type} the host's`;
    return `namespace ${type} ${link === namespaces.pod[base] ? "the pod's" : "its own"}`;
  }
  return names.reduce((text, [path, name]) => text.replaceAll(path, name), line);
}

interface MountRow {
  id: string;
  point: string;
  parent: MountRow | undefined;
  rest: string[];
}

/** Without numbers of mounts, peer groups and devices: where each is, on which other, and all that it is. */
function mountFacts(lines: string[]): string[] {
  const rows = new Map<string, MountRow>();
  const parents = new Map<string, string>();
  for (const line of lines) {
    const [id = "", parent = "", , root = "", point = "", ...rest] = line.slice("mount ".length).split(" ");
    rows.set(id, { id, point, parent: undefined, rest: [root, ...rest] });
    parents.set(id, parent);
  }
  for (const row of rows.values()) row.parent = rows.get(parents.get(row.id) ?? "");
  const covered = new Set([...rows.values()].flatMap((row) => (row.parent?.point === row.point ? [row.parent] : [])));
  const isSeen = (row: MountRow): boolean =>
    !covered.has(row) && (row.parent === undefined || row.parent.point === row.point || isSeen(row.parent));
  return [...rows.values()].map((row) => (isSeen(row) ? mountFact(row) : `covered-mount ${row.point}`)).sort();
}

function mountFact({ point, parent, rest: [root, options, ...rest] }: MountRow): string {
  let on = parent;
  while (on?.point === point) on = on.parent;
  const dash = rest.indexOf("-");
  const propagation = rest.slice(0, dash).map((tag) => tag.replace(/:.*/, ""));
  const [type, source, ownOptions = ""] = rest.slice(dash + 1);
  const own = ownOptions.split(",").filter((option) => !/^(lowerdir|upperdir|workdir)/.test(option));
  const where = `${point} on ${on?.point ?? "outside"}`;
  return `mount ${where} root:${root} ${options} [${propagation.join(" ")}] ${type} ${source} ${own.join(",")}`;
}

function without(lines: readonly string[], others: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const line of others) left.set(line, (left.get(line) ?? 0) + 1);
  return lines.filter((line) => {
    const count = left.get(line) ?? 0;
    if (count > 0) left.set(line, count - 1);
    return count === 0;
  });
}
