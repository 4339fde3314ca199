/** What completion scripts and the manual need of commander's tree. */
import type { Command, Option } from "commander";

export interface TreeNode {
  /** "image pull"; empty for the program itself */
  readonly path: string;
  readonly name: string;
  readonly description: string;
  readonly arguments: readonly TreeArgument[];
  readonly options: readonly TreeOption[];
  readonly children: readonly TreeNode[];
}

export interface TreeArgument {
  /** as in the usage: "<IMAGE>", "[CMD...]" */
  readonly usage: string;
  readonly description: string;
}

export interface TreeOption {
  /** as it was declared: "-t, --tty", "--config <FILE>" */
  readonly flags: string;
  readonly short: string | undefined;
  readonly long: string | undefined;
  readonly takesValue: boolean;
  readonly description: string;
  /** undefined: none */
  readonly fallback: unknown;
}

export function treeOf(command: Command, parentPath = ""): TreeNode {
  const isRoot = command.parent === null;
  const path = isRoot ? "" : `${parentPath} ${command.name()}`.trim();
  const help = command.createHelp();
  return {
    path,
    name: command.name(),
    description: command.description(),
    arguments: command.registeredArguments.map((argument) => ({
      usage: bracketed(argument.name(), argument.required, argument.variadic),
      description: argument.description,
    })),
    options: help.visibleOptions(command).map(optionOf),
    // commander adds "help" by itself
    children: command.commands.filter((child) => child.name() !== "help").map((child) => treeOf(child, path)),
  };
}

function optionOf(option: Option): TreeOption {
  return {
    flags: option.flags,
    short: option.short,
    long: option.long,
    takesValue: option.required || option.optional,
    description: option.description,
    fallback: option.defaultValue,
  };
}

function bracketed(name: string, required: boolean, variadic: boolean): string {
  const word = variadic ? `${name}...` : name;
  return required ? `<${word}>` : `[${word}]`;
}

/** The node and all below it, in the order of the help. */
export function allNodes(node: TreeNode): TreeNode[] {
  return [node, ...node.children.flatMap(allNodes)];
}

/** "--json", "-t": what can be typed of a node's options. */
export function optionWords(node: TreeNode): string[] {
  return node.options.flatMap(({ short, long }) => [short, long]).filter((word) => word !== undefined);
}
