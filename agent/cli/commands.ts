/** The command line's tree, and how much of it is loaded. */
import { Command, type CommanderError } from "commander";
import { runtimeVersion } from "../version.js";
import { exitCodes } from "./failure.js";

interface CommandModule {
  addTo(parent: Command): void;
}

interface Entry {
  summary: string;
  load: () => Promise<CommandModule[]>;
}

const commands: Record<string, Entry> = {
  serve: { summary: "run the agent", load: async () => [await import("./serve.js")] },
  pods: { summary: "list pods", load: async () => [await import("./pods.js")] },
  ps: { summary: "list containers", load: async () => [await import("./ps.js")] },
  stats: { summary: "tell what containers or pods use", load: async () => [await import("./stats.js")] },
  top: { summary: "show all the time what containers or pods use", load: async () => [await import("./top.js")] },
  cgroup: {
    summary: "tell a pod's or a container's limits, usage and pressure, and in which file each stands",
    load: async () => [await import("./cgroup.js")],
  },
  oom: {
    summary: "tell which processes of containers the kernel killed for memory, and among which it chose",
    load: async () => [await import("./oom.js")],
  },
  exec: { summary: "run a program in a container", load: async () => [await import("./exec.js")] },
  attach: { summary: "show a container's output from now on", load: async () => [await import("./attach.js")] },
  cp: {
    summary: "copy files out of a running container, or into it",
    load: async () => [await import("./cp.js")],
  },
  logs: { summary: "print a container's log", load: async () => [await import("./logs.js")] },
  "forward-logs": {
    summary: "pass on what containers write to the journal or to an OpenTelemetry collector",
    load: async () => [await import("./forward-logs.js")],
  },
  "push-metrics": {
    summary: "send what /metrics says to a Prometheus or an OpenTelemetry collector",
    load: async () => [await import("./push-metrics.js")],
  },
  "port-forward": {
    summary: "lead local ports to ports of a pod",
    load: async () => [await import("./port-forward.js")],
  },
  inspect: {
    summary: "print a container's OCI spec, or write a bundle that another OCI runtime can run",
    load: async () => [await import("./inspect.js")],
  },
  events: {
    summary: "tell what has happened on this node, and what happens",
    load: async () => [await import("./events.js")],
  },
  explain: {
    summary: "tell every isolation and limit of a container: where it comes from, and what has set it",
    load: async () => [await import("./explain.js")],
  },
  namespaces: {
    summary: "tell which processes share which namespaces, as a table, a tree or a picture",
    load: async () => [await import("./namespaces.js")],
  },
  diff: {
    summary: "tell what a container has changed in the files of its image",
    load: async () => [await import("./diff.js")],
  },
  images: { summary: "list images", load: async () => [await import("./images.js")] },
  image: {
    summary: "list, pull, remove, tag, inspect, import, export or check images, or tell what they take",
    load: () =>
      Promise.all([
        import("./images.js"),
        import("./image-import.js"),
        import("./image-export.js"),
        import("./image-pull.js"),
        import("./image-rm.js"),
        import("./image-tag.js"),
        import("./image-prune.js"),
        import("./image-inspect.js"),
        import("./image-history.js"),
        import("./image-check.js"),
        import("./image-du.js"),
      ]),
  },
  network: {
    summary: "tell of a pod's network; tell, or finish, what pods that have ended have left",
    load: () => Promise.all([import("./network-ls.js"), import("./network-gc.js"), import("./network-inspect.js")]),
  },
  run: {
    summary: "run an image as a pod of one container, in the foreground",
    load: async () => [await import("./run.js")],
  },
  stop: {
    summary: "stop containers, or pods with all of their containers",
    load: async () => [await import("./stop.js")],
  },
  rm: {
    summary: "remove containers, or pods with all of their containers",
    load: async () => [await import("./rm.js")],
  },
  config: {
    summary: "print, check or translate the configuration",
    load: async () => [await import("./config.js")],
  },
  kube: {
    summary: "tell the API server of this node's runtime, and prefetch images: a process of its own, without root",
    load: async () => [await import("./kube.js")],
  },
  leaks: {
    summary: "tell what of pods and containers is on this machine and belongs to none, or take it away",
    load: async () => [await import("./leaks.js")],
  },
  debug: {
    summary: "look into the agent itself: its processor time, its heap, its last calls and events",
    load: async () => [await import("./debug.js")],
  },
  doctor: { summary: "say what this host has and lacks", load: async () => [await import("./doctor.js")] },
  "export-support": {
    summary: "write an archive for whoever is to help, without secrets",
    load: async () => [await import("./export-support.js")],
  },
  completion: {
    summary: "print a completion script for bash, zsh or fish",
    load: async () => [await import("./completion.js")],
  },
  version: {
    summary: "tell the versions of this command and of the agent",
    load: async () => [await import("./version.js")],
  },
};

/** those that have commands of their own */
const groups = ["image", "network", "config", "debug"];

/** With what one command has, or (null) all of them have; of the others there are the name and the summary. */
export async function commandTree(asked: string | undefined | null): Promise<Command> {
  const program = new Command("berth")
    .description("A Kubernetes container runtime and node agent")
    .version(runtimeVersion)
    .enablePositionalOptions()
    .exitOverride(endWith)
    .showHelpAfterError("(berth --help lists the commands)");
  for (const [name, { summary, load }] of Object.entries(commands)) {
    if (asked !== null && name !== asked) {
      program.command(name).description(summary);
      continue;
    }
    const parent = groups.includes(name) ? program.command(name).description(summary) : program;
    for (const module of await load()) module.addTo(parent);
  }
  for (const command of program.commands) hintAt(command, "berth");
  return program;
}

/** commander's own errors are all of the command line; it has told them. */
function endWith({ exitCode }: CommanderError): never {
  process.exit(exitCode === 0 ? 0 : exitCodes.usage);
}

function hintAt(command: Command, parentPath: string): void {
  const path = `${parentPath} ${command.name()}`;
  command.showHelpAfterError(`(${path} --help tells more)`);
  for (const child of command.commands) hintAt(child, path);
}

/** Those that `berth help` takes, and `help` itself. */
export const commandNames: readonly string[] = [...Object.keys(commands), "help"];

/** Words of other runtimes' commands. */
const familiar: Readonly<Record<string, string>> = {
  pull: "image pull",
  rmi: "image rm",
  tag: "image tag",
  load: "image import",
  import: "image import",
  save: "image export",
  history: "image history",
  prune: "image prune",
  df: "image du",
  info: "doctor",
  containers: "ps",
  ls: "ps",
  sandboxes: "pods",
  port: "port-forward",
  support: "export-support",
  stopp: "stop",
  rmp: "rm",
  remove: "rm",
  delete: "rm",
  describe: "explain",
};

/** What other runtimes' commands do to pods and containers, and Berth's does not. */
export const foreignCommands: readonly string[] = "create start restart kill pause unpause update runp".split(" ");

/** Undefined: it is a command, or nothing that is known. */
export function familiarCommand(word: string | undefined): string | undefined {
  if (word === undefined || Object.hasOwn(commands, word)) return undefined;
  return Object.hasOwn(familiar, word) ? familiar[word] : undefined;
}
