import { seccompChoice } from "../../../sandbox/spec/seccomp.js";
import { byDefault, type Fact, fact, type Section, type Subject } from "./fact.js";

const context = "linux.security_context";

export function processFacts(subject: Subject): Section {
  const { spec, config } = subject;
  const { user, cwd, args, terminal, oomScoreAdj, rlimits } = spec.process;
  const facts = [
    fact(`runs ${args.map((arg) => JSON.stringify(arg)).join(" ")}`, commandField(config), "execve()"),
    fact(`in ${cwd}`, config.working_dir ? "working_dir" : "the image's WORKDIR", "chdir()"),
    fact(`as user ${user.uid}, group ${user.gid}`, userField(config), "setresuid(), setresgid()"),
  ];
  const groups = user.additionalGids ?? [];
  facts.push(
    fact(
      groups.length === 0 ? "in no other group" : `in the groups ${groups.join(", ")}, too`,
      `${context}.supplemental_groups, and /etc/group unless supplemental_groups_policy is Strict`,
      "setgroups()",
    ),
  );
  if (terminal) facts.push(fact("on a terminal", "tty", "open(/dev/ptmx), ioctl(TIOCSCTTY)"));
  if (oomScoreAdj !== undefined) {
    facts.push(fact(`oom_score_adj is ${oomScoreAdj}`, "linux.resources.oom_score_adj", "/proc/self/oom_score_adj"));
  }
  for (const { type, soft, hard } of rlimits ?? []) {
    facts.push(
      fact(`${type} is ${limit(soft)}, at most ${limit(hard)}`, "[rlimits] of Berth's configuration", "prlimit()"),
    );
  }
  return { title: "The process", facts };
}

export function privilegeFacts({ spec, config }: Subject): Section {
  const asked = config.linux?.security_context;
  const { capabilities, noNewPrivileges, apparmorProfile, selinuxLabel } = spec.process;
  const facts: Fact[] = [];
  if (asked?.privileged) {
    facts.push(fact("it is privileged: nothing below confines it much", `${context}.privileged`, "–"));
  }
  const changes = [
    ...(asked?.capabilities?.add_capabilities ?? []).map((name) => `+${name}`),
    ...(asked?.capabilities?.add_ambient_capabilities ?? []).map((name) => `+${name} (ambient)`),
    ...(asked?.capabilities?.drop_capabilities ?? []).map((name) => `-${name}`),
  ];
  facts.push(
    fact(
      `may ever have ${capabilities.bounding.length} capabilities: ${short(capabilities.bounding)}`,
      changes.length === 0 ? byDefault : `${context}.capabilities: ${changes.join(" ")}`,
      "prctl(PR_CAPBSET_DROP) for every other",
    ),
    fact(
      capabilities.effective.length === 0
        ? "has none of them in effect"
        : `has in effect: ${short(capabilities.effective)}`,
      spec.process.user.uid === 0 ? "it is root" : "it is not root: what is ambient alone stays",
      "capset(), prctl(PR_CAP_AMBIENT_RAISE), execve()",
    ),
    noNewPrivileges
      ? fact(
          "set-user-id programs and file capabilities give it nothing",
          `${context}.no_new_privs`,
          "prctl(PR_SET_NO_NEW_PRIVS)",
        )
      : fact("set-user-id programs work", `${context}.no_new_privs is not set`, "nothing"),
    seccompFact(spec.linux.seccomp, asked),
  );
  if (apparmorProfile !== undefined) {
    facts.push(fact(`AppArmor profile ${apparmorProfile}`, `${context}.apparmor`, "/proc/self/attr/apparmor/exec"));
  }
  if (selinuxLabel)
    facts.push(fact(`SELinux label ${selinuxLabel}`, `${context}.selinux_options`, "/proc/self/attr/exec"));
  return { title: "Privileges: what the kernel lets it do", facts };
}

function seccompFact(filter: Subject["spec"]["linux"]["seccomp"], asked: Parameters<typeof seccompChoice>[0]): Fact {
  const choice = seccompChoice(asked);
  const from = asked?.privileged ? `${context}.privileged` : `${context}.seccomp`;
  if (filter === undefined) return fact("every system call is open to it", `${from}: ${choice.kind}`, "nothing");
  const named = (filter.syscalls ?? []).flatMap(({ names, action }) => (action === "SCMP_ACT_ALLOW" ? names : []));
  const which = choice.kind === "localhost" ? choice.path : "Berth's own profile";
  const rest = filter.defaultAction === "SCMP_ACT_ALLOW" ? "calls are allowed unless listed" : "others fail";
  return fact(
    `system calls are filtered by ${which}: ${new Set(named).size} are allowed by name, ${rest}`,
    `${from}.profile_type`,
    "seccomp(SECCOMP_SET_MODE_FILTER)",
  );
}

function commandField(config: Subject["config"]): string {
  if (config.command?.length) return config.args?.length ? "command and args" : "command";
  return config.args?.length ? "the image's ENTRYPOINT, and args" : "the image's ENTRYPOINT and CMD";
}

function userField(config: Subject["config"]): string {
  const asked = config.linux?.security_context;
  if (asked?.run_as_user) return `${context}.run_as_user`;
  return asked?.run_as_username ? `${context}.run_as_username` : "the image's USER";
}

function limit(value: number): string {
  return value === 2 ** 64 ? "unlimited" : String(value);
}

function short(names: readonly string[]): string {
  return names.length > 30 ? "nearly all" : names.map((name) => name.replace("CAP_", "")).join(", ");
}
