/** Namespaces: what two containers of one pod share, and what each has for itself. */
import { readFileSync, readlinkSync } from "node:fs";
import { type ContainerInfo, exec, infoOf, removePods, runContainer, startPod } from "./pods.js";
import type { Demo } from "./setup.js";

const kinds = [
  ["net", "interfaces, addresses, ports"],
  ["ipc", "shared memory, message queues"],
  ["uts", "the host name"],
  ["pid", "process numbers"],
  ["mnt", "mounts, and so the files"],
  ["cgroup", "the root of the cgroups"],
] as const;
const shared = ["net", "ipc", "uts"];

export async function showNamespaces(demo: Demo): Promise<void> {
  const { screen } = demo;
  screen.title(
    "Namespaces",
    "A namespace decides what a process sees of one kind of thing: the network, the processes, the mounts. Each has a " +
      "number. Two processes with the same number see the same things. A pod is a few processes that share some " +
      "namespaces: its containers have one network and one host name, but each has processes and files of its own.",
  );
  const pod = await startPod(demo, "two-in-one");
  const one = await runContainer(demo, pod, "one", {
    command: ["sleep", "1000"],
    security: { capabilities: { add_capabilities: ["SYS_ADMIN"] } },
  });
  const two = await runContainer(demo, pod, "two", { command: ["sleep", "2000"] });
  const [infoOne, infoTwo] = [await infoOf(demo, one), await infoOf(demo, two)];

  screen.say(
    '"pid": 1 asks for a PID namespace for each container, as Kubernetes does. Without it the containers of a pod would ' +
      "share that one, too.",
  );
  screen.say(`Their namespaces, and those of this demo (process ${process.pid}), which runs on the host:`);
  const numbers = kinds.map(([kind, what]) => ({
    kind,
    what,
    one: namespaceOf(infoOne.pid, kind),
    two: namespaceOf(infoTwo.pid, kind),
    host: namespaceOf(process.pid, kind),
  }));
  screen.table(
    ["namespace", "container one", "container two", "the host", "what it holds"],
    numbers.map(({ kind, what, one, two, host }) => [kind, one, two, host, what]),
    `readlink /proc/${infoOne.pid}/ns/net (and /proc/${infoTwo.pid}, /proc/${process.pid}; ipc, uts, ...)`,
  );
  for (const { kind, one, two, host } of numbers) {
    if (shared.includes(kind))
      screen.check(`${kind}: the same in both, another than the host's`, one === two && one !== host);
    else screen.check(`${kind}: each has its own`, one !== two && one !== host && two !== host);
  }

  await showProcessNumbers(demo, one, infoOne);
  await showHostname(demo, one, two);
  await removePods(demo, [pod]);
}

type Container = Parameters<typeof exec>[1];

async function showProcessNumbers(demo: Demo, container: Container, { pid }: ContainerInfo): Promise<void> {
  const { screen } = demo;
  screen.say(
    "One process has a number in each PID namespace that it can be seen from. Container one's program is PID 1 inside, " +
      "and there it sees nothing but its own processes. The host sees the same process under another number. NSpid lists " +
      "them all: the host's, the one that the pod's monitor sees, the container's.",
  );
  const { stdout } = await exec(demo, container, ["ps", "-o", "pid,args"]);
  const inside = stdout.split("\n").map((line) => line.trim().split(/\s+/));
  const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").trim();
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const numbers = /^NSpid:\s*(.*)$/m.exec(status)?.[1]?.split(/\s+/) ?? [];
  screen.values([
    ["on the host", `PID ${pid}: ${command}`, `/proc/${pid}/cmdline`],
    ["all its numbers", numbers.join("  "), `NSpid in /proc/${pid}/status`],
  ]);
  screen.check(
    "inside, sleep 1000 is PID 1",
    inside.some(([number, ...args]) => number === "1" && args.join(" ") === "sleep 1000"),
  );
  screen.check(
    `outside, the same process is PID ${pid}`,
    command === "sleep 1000" && pid > 1 && numbers.at(-1) === "1",
  );
}

async function showHostname(demo: Demo, one: Container, two: Container): Promise<void> {
  const { screen } = demo;
  screen.say(
    "The host name belongs to the UTS namespace, and that is the pod's. Container one may set it, because it was given " +
      "CAP_SYS_ADMIN for this. Container two sees the new name. The host keeps its own.",
  );
  const before = hostname();
  await exec(demo, one, ["hostname", "set-by-one"]);
  const { stdout: inOne } = await exec(demo, one, ["hostname"]);
  const { stdout: inTwo } = await exec(demo, two, ["hostname"]);
  screen.values([
    ["the host's name before", before, "/proc/sys/kernel/hostname"],
    ["the host's name now", hostname(), "/proc/sys/kernel/hostname"],
  ]);
  screen.check("both containers have the new name", inOne.trim() === "set-by-one" && inTwo.trim() === "set-by-one");
  screen.check("the host's name is what it was", hostname() === before && before !== "set-by-one");
}

/** The inode number alone: "net:[4026531840]" is what the kernel writes. */
function namespaceOf(pid: number, kind: string): string {
  return /\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/${kind}`))?.[1] ?? "";
}

function hostname(): string {
  return readFileSync("/proc/sys/kernel/hostname", "utf8").trim();
}
