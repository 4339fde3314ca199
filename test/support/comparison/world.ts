/** What random configurations are about: the images, and the host's files and mounts that they name. */
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestAgent } from "../agent.js";
import type { BuiltConfig } from "../image-builder.js";
import type { TarEntry } from "../tar-writer.js";
import { importBusybox } from "../workload.js";

export interface World {
  /** with plain, shared, slave, flags and readonly below it, and profile.json, a seccomp profile */
  directory: string;
  images: readonly string[];
  probe: string;
}

/** Every form of USER; the last has all that an image's configuration can say about a process. */
const imageConfigs: BuiltConfig[] = [
  {},
  { User: "app" },
  { User: "1000:0" },
  { User: "app:extra", WorkingDir: "/home/app" },
  { User: "4321" },
  { User: "nobody:2000", Env: ["PATH=/bin", "EMPTY=", "HOME=/elsewhere"] },
  { User: "daemon", Env: ["PATH=/bin", "WITH=a=b", "LANG=C.UTF-8"], WorkingDir: "made/for/it", StopSignal: "SIGUSR1" },
];

const seccompProfile = {
  defaultAction: "SCMP_ACT_ALLOW",
  archMap: [{ architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] }],
  syscalls: [
    { names: ["mkdir", "mkdirat", "no_such_system_call"], action: "SCMP_ACT_ERRNO" },
    { names: ["lchown"], action: "SCMP_ACT_ERRNO", errnoRet: 38 },
    { names: ["swapon"], action: "SCMP_ACT_KILL_PROCESS" },
    { names: ["acct"], action: "SCMP_ACT_KILL_THREAD" },
    { names: ["swapoff"], action: "SCMP_ACT_TRAP" },
    { names: ["umask"], action: "SCMP_ACT_LOG" },
    { names: ["socket"], action: "SCMP_ACT_ERRNO", errnoRet: 97, args: [{ index: 0, value: 40, op: "SCMP_CMP_EQ" }] },
    {
      names: ["personality"],
      action: "SCMP_ACT_ERRNO",
      args: [{ index: 0, value: 4294967295, valueTwo: 8, op: "SCMP_CMP_MASKED_EQ" }],
    },
    { names: ["ptrace"], action: "SCMP_ACT_ERRNO", includes: { caps: ["CAP_CHOWN"] } },
    { names: ["syslog"], action: "SCMP_ACT_ERRNO", excludes: { caps: ["CAP_CHOWN"] } },
    { names: ["setpriority"], action: "SCMP_ACT_ERRNO", includes: { minKernel: "99.0" } },
  ],
};

export async function makeWorld(agent: TestAgent, probe: string): Promise<World> {
  const layer: TarEntry[] = [
    { path: "probe", mode: 0o755, content: readFileSync(probe) },
    { path: "data/", type: "directory", mode: 0o770, uid: 1000, gid: 2000 },
    { path: "data/of-the-image", content: "image\n", mode: 0o640 },
    { path: "link", type: "symlink", link: "data" },
    { path: "up", type: "symlink", link: "../../../../data/over" },
    { path: "var/run", type: "symlink", link: "../run" },
    { path: "opt/secret/", type: "directory", mode: 0o700 },
    { path: "opt/file", content: "covered\n", mode: 0o4755 },
    { path: "etc/resolv.conf", type: "symlink", link: "../run/resolv.conf" },
  ];
  const images = imageConfigs.map((_, index) => `berth.test/comparison:${index}`);
  for (const [index, config] of imageConfigs.entries()) {
    await importBusybox(agent, images[index], { layers: [layer], config });
  }
  const directory = join(agent.paths.base, "world");
  mkdirSync(directory);
  const world: World = { directory, images, probe };
  writeFileSync(join(directory, "profile.json"), JSON.stringify(seccompProfile));
  for (const [name, ...options] of [
    ["shared", "mode=755"],
    ["flags", "nosuid,nodev,noexec,noatime,mode=1777"],
    ["readonly", "ro"],
  ] as const) {
    mkdirSync(join(directory, name));
    mount("-t", "tmpfs", "-o", options.join(","), name, join(directory, name));
  }
  mount("--make-rshared", join(directory, "shared"));
  mkdirSync(join(directory, "shared", "sub"));
  mkdirSync(join(directory, "shared", "directory"));
  mount("-t", "tmpfs", "-o", "nosuid,nodev,noexec", "sub", join(directory, "shared", "sub"));
  mkdirSync(join(directory, "slave"));
  mount("--rbind", join(directory, "shared"), join(directory, "slave"));
  mount("--make-rslave", join(directory, "slave"));
  refill(world);
  return world;
}

/** Containers make places for mounts in volumes: each configuration finds them as they were. */
export function refill({ directory }: World): void {
  const plain = join(directory, "plain");
  rmSync(plain, { recursive: true, force: true });
  mkdirSync(join(plain, "directory", "inner"), { recursive: true });
  writeFileSync(join(plain, "file"), "plain\n", { mode: 0o640 });
  writeFileSync(join(plain, "directory", "inner", "file"), "inner\n");
  mkdirSync(join(plain, "closed"), { mode: 0o700 });
  chownSync(join(plain, "closed"), 1000, 1000);
  chmodSync(join(plain, "directory"), 0o2775);
  symlinkSync("directory", join(plain, "link"));
  symlinkSync("file", join(plain, "file-link"));
}

export function unmountWorld({ directory }: World): void {
  for (const name of ["slave", "shared", "flags", "readonly"]) run("umount", "--recursive", join(directory, name));
}

function mount(...args: string[]): void {
  run("mount", ...args);
}

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}
