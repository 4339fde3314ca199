/** AppArmor of this host: which profiles are loaded, and Berth's own default one, which is loaded at the agent's start. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { messageOf } from "../errors.js";
import { defaultApparmorProfile, defaultApparmorProfileName } from "./default-apparmor-profile.js";

const parsers = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
const parserTimeoutMs = 60_000;

export interface ApparmorPlaces {
  /** the kernel's list: a line "NAME (MODE)" each */
  profilesFile?: string;
  /** where the program that compiles and loads profiles may be */
  parsers?: readonly string[];
}

export interface Apparmor {
  /** the kernel has it, and it is on */
  readonly enabled: boolean;
  /** why RuntimeDefault cannot be given; empty: it can, or the kernel has no AppArmor */
  readonly problem: string;
  /** undefined: nobody can tell, because securityfs is not mounted */
  isLoaded(profile: string): Promise<boolean | undefined>;
  /** the default profile's name, loaded again when somebody has taken it away; undefined: `problem` says why not */
  defaultProfile(): Promise<string | undefined>;
}

/** @param enabled what the kernel says */
export async function openApparmor(enabled: boolean, places: ApparmorPlaces = {}): Promise<Apparmor> {
  const { profilesFile = "/sys/kernel/security/apparmor/profiles" } = places;
  const parser = enabled ? (places.parsers ?? parsers).find(isExecutable) : undefined;

  const isLoaded = async (profile: string): Promise<boolean | undefined> => {
    const text = await readFile(profilesFile, "utf8").catch(() => undefined);
    return text?.split("\n").some((line) => line.slice(0, line.lastIndexOf(" (")) === profile);
  };
  const load = async (): Promise<string> => {
    if (parser === undefined) return "apparmor_parser is not installed";
    try {
      await runParser(parser);
      return "";
    } catch (error) {
      return `the profile ${defaultApparmorProfileName} cannot be loaded: ${messageOf(error)}`;
    }
  };
  // an older agent's may be loaded: it is replaced, in running containers, too
  let problem = enabled ? await load() : "";

  return {
    enabled,
    get problem() {
      return problem;
    },
    isLoaded,
    async defaultProfile() {
      if (!enabled || problem !== "") return undefined;
      if ((await isLoaded(defaultApparmorProfileName)) === false) problem = await load();
      return problem === "" ? defaultApparmorProfileName : undefined;
    },
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function runParser(path: string): Promise<void> {
  const child = spawn(path, ["--replace", "--skip-cache"], {
    stdio: ["pipe", "ignore", "pipe"],
    timeout: parserTimeoutMs,
  });
  let complaints = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-1000);
  });
  // a parser that ends early says why by its exit
  child.stdin.on("error", () => undefined);
  child.stdin.end(defaultApparmorProfile);
  const [code, signal] = await once(child, "close");
  if (code !== 0) throw new Error(`${path} ended with ${code ?? signal}: ${complaints.trim()}`);
}
