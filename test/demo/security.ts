/** Security: what root in a container may not do. */
import { readFileSync } from "node:fs";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { type DemoContainer, type DemoPod, exec, infoOf, removePods, runContainer, startPod } from "./pods.js";
import { type Demo, notesPath } from "./setup.js";

const { ProfileType } = runtime.v1.SecurityProfile;
const chownBit = 0n;
const fields = ["Uid", "CapEff", "Seccomp", "Seccomp_filters"] as const;

type Status = Record<(typeof fields)[number], string>;

export async function showSecurity(demo: Demo): Promise<void> {
  const { screen } = demo;
  screen.title(
    "Security",
    "Root in a container is root without most of root's powers. Two of the kernel's means are shown here. Capabilities " +
      "split what root may do into some forty parts, and a process has only those in its set. A seccomp filter is a small " +
      "program that the kernel runs before each system call, and it can refuse the call.",
    "Three containers of one image, all as user 0: one with the default capabilities and the default seccomp filter, one without CAP_CHOWN, one " +
      "without a seccomp filter.",
  );
  const pod = await startPod(demo, "guarded");
  const usual = await guarded(demo, pod, "default", {});
  const fewer = await guarded(demo, pod, "no-chown", { capabilities: { drop_capabilities: ["CHOWN"] } });
  const open = await guarded(demo, pod, "no-seccomp", { seccomp: { profile_type: ProfileType.Unconfined } });
  const all: [DemoContainer, Status][] = [];
  for (const container of [usual, fewer, open]) all.push([container, statusOf((await infoOf(demo, container)).pid)]);

  screen.say('In the files, "profile_type": 0 asks for the default filter, 1 for none.');
  screen.say(
    "What the kernel says of each container's PID 1. CapEff is a set of bits; bit 0 is CAP_CHOWN. Seccomp 2 is a filter.",
  );
  screen.table(
    ["container", ...fields],
    all.map(([{ name }, status]) => [name, ...fields.map((field) => status[field])]),
    "/proc/PID/status",
  );
  const [usualStatus, fewerStatus, openStatus] = all.map(([, status]) => status) as [Status, Status, Status];
  screen.check(
    "all three run as user 0",
    all.every(([, { Uid }]) => Uid.split(/\s+/).every((uid) => uid === "0")),
  );
  screen.check(
    "no-chown has the default set without bit 0",
    capabilities(usualStatus) - capabilities(fewerStatus) === 1n << chownBit,
  );
  screen.check(
    "no-seccomp has no filter, the others have one",
    openStatus.Seccomp === "0" && usualStatus.Seccomp === "2" && fewerStatus.Seccomp === "2",
  );

  screen.say("To give a file away takes CAP_CHOWN. The first container has it, the second one has not.");
  await exec(demo, usual, ["chown", "app", notesPath]);
  const { stdout: owner } = await exec(demo, usual, ["stat", "-c", "%U", notesPath]);
  const refused = await exec(demo, fewer, ["chown", "app", notesPath]);
  screen.check("with CAP_CHOWN the file has a new owner", owner.trim() === "app");
  screen.check("without it: Operation not permitted", isRefused(refused));

  screen.say(
    "The system call unshare(CLONE_NEWUSER) makes a user namespace. It takes no capability at all, and it opens parts of " +
      "the kernel in which many holes were found. The default filter refuses it. Without a filter it succeeds: the " +
      "process is in a user namespace of its own, and its user there is nobody, 65534.",
  );
  const unshare = ["unshare", "-U", "id", "-u"];
  const filtered = await exec(demo, usual, unshare);
  const unfiltered = await exec(demo, open, unshare);
  screen.check("with the default filter: Operation not permitted", isRefused(filtered));
  screen.check(
    "without a filter the same call succeeds",
    unfiltered.exitCode === 0 && unfiltered.stdout.trim() === "65534",
  );
  await removePods(demo, [pod]);
}

/** The kubelet names the runtime's default profile; so does the demo, unless it is told otherwise. */
function guarded(
  demo: Demo,
  pod: DemoPod,
  name: string,
  context: runtime.v1.ILinuxContainerSecurityContext,
): Promise<DemoContainer> {
  const security = { seccomp: { profile_type: ProfileType.RuntimeDefault }, ...context };
  return runContainer(demo, pod, name, { command: ["sleep", "1000"], security });
}

function isRefused({ exitCode, stderr }: { exitCode: number; stderr: string }): boolean {
  return exitCode !== 0 && stderr.includes("Operation not permitted");
}

function statusOf(pid: number): Status {
  const lines = readFileSync(`/proc/${pid}/status`, "utf8").split("\n");
  const value = (field: string) =>
    lines
      .find((line) => line.startsWith(`${field}:`))
      ?.slice(field.length + 1)
      .trim() ?? "";
  return Object.fromEntries(fields.map((field) => [field, value(field).replaceAll("\t", " ")])) as Status;
}

function capabilities({ CapEff }: Status): bigint {
  return BigInt(`0x${CapEff}`);
}
