/**
 * In a pod with a user namespace, what joins a PID namespace that the attacker is in (execs, and containers that build their
 * roots there with the host's still in sight) can be seen before its exec. The attacker has every capability of the pod's
 * namespace: nothing of such a process may open, be traced, or lead to the host.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { kernelFeatures } from "../../native/features.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import {
  exec,
  importBusybox,
  long,
  NamespaceMode,
  out,
  type RunningPod,
  runContainer,
  runPod,
  untilWritten,
  waitExited,
} from "../support/workload.js";
import { attackTarget, attempt, compile, executable, repeat, rounds } from "./support.js";

const execs = rounds(300, 10_000);
const imageName = "berth.test/user-namespace-escape:1";
const skip = supportsUserNamespaces(kernelFeatures()) ? false : "this kernel has no idmapped overlay and tmpfs mounts";

/**
 * Tries everything on every other process that is still the monitor's copy (its name tells). argv[1] is a file of the host.
 * Writes what worked.
 */
const watcher = `
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int done;
static void stop(int signal) { done = 1; }
static int is_early(int pid) {
  char path[64], name[64] = "";
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  if (read(fd, name, sizeof name - 1) < 0) name[0] = 0;
  close(fd);
  return !strncmp(name, "berth", 5);
}
/* In the middle of its exec the process is the program already, and has the old name for a moment. */
static int is_still_early(int pid) {
  char path[64], link[512];
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  ssize_t length = readlink(path, link, sizeof link - 1);
  if (length < 0) return is_early(pid);
  link[length] = 0;
  return strncmp(link, "/bin/", 5) != 0;
}
static void try_open(int pid, const char* what, int flags) {
  char path[512];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
  int fd = open(path, flags);
  if (fd < 0) return;
  char byte;
  int readable = read(fd, &byte, 1) == 1 || (flags & (O_PATH | O_DIRECTORY));
  close(fd);
  if (readable && is_still_early(pid)) { printf("OPENED %s\\n", what); fflush(stdout); }
}
int main(int count, char** names) {
  signal(SIGTERM, stop);
  long early = 0;
  char path[512];
  puts("watching");
  fflush(stdout);
  while (!done) {
    DIR* proc = opendir("/proc");
    struct dirent* entry;
    while ((entry = readdir(proc))) {
      int pid = atoi(entry->d_name);
      if (pid < 1 || pid == getpid() || !is_early(pid)) continue;
      ++early;
      const char* files[] = {"environ", "maps", "mem", "auxv", "pagemap"};
      for (int i = 0; i < 5; ++i) try_open(pid, files[i], O_RDONLY);
      const char* links[] = {"root", "cwd", "exe", "ns/mnt", "ns/user"};
      for (int i = 0; i < 5; ++i) try_open(pid, links[i], O_PATH);
      try_open(pid, "fd", O_RDONLY | O_DIRECTORY);
      for (int fd = 0; fd < 32; ++fd) { snprintf(path, sizeof path, "fd/%d", fd); try_open(pid, path, O_PATH); }
      snprintf(path, sizeof path, "root%s", names[1]); try_open(pid, path, O_RDONLY);
      if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        if (is_still_early(pid)) puts("TRACED");
        int status;
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        if (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) ptrace(PTRACE_DETACH, pid, 0, 0);
      }
      int pidfd = syscall(SYS_pidfd_open, pid, 0);
      if (pidfd >= 0) {
        for (int fd = 0; fd < 16; ++fd) {
          int stolen = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
          if (stolen >= 0 && is_still_early(pid)) printf("STOLEN %d\\n", fd);
          if (stolen >= 0) close(stolen);
        }
        close(pidfd);
      }
    }
    closedir(proc);
  }
  printf("early %ld\\n", early);
  return 0;
}`;

const target = attackTarget(({ agent }) =>
  importBusybox(agent, imageName, { layers: [[executable("watcher", compile(agent, "watcher", watcher))]] }),
);

const ids = [{ host_id: 300_000, container_id: 0, length: 65_536 }];
const userns_options = { mode: NamespaceMode.POD, uids: ids, gids: ids };
const unconfined = { profile_type: 1 };
const everything = { capabilities: { add_capabilities: ["ALL"] }, seccomp: unconfined, apparmor: unconfined };

function runUserPod(): Promise<RunningPod> {
  return runPod(target.agent, { linux: { security_context: { namespace_options: { userns_options } } } });
}

/** The watcher sees what `attacked` does in its PID namespace. */
async function watch(
  namespace_options: runtime.v1.INamespaceOption,
  attacked: (id: string, pod: RunningPod) => Promise<void>,
): Promise<void> {
  const { agent, canary } = target;
  const pod = await runUserPod();
  const id = await runContainer(agent, pod, {
    image: { image: imageName },
    command: ["/watcher", join(canary.directory, "secret")],
    linux: { security_context: { ...everything, namespace_options } },
  });
  await untilWritten(agent, id, "watching");
  await attacked(id, pod);
  await agent.client.call("StopContainer", { container_id: id, timeout: long(5) });
  const log = readFileSync((await waitExited(agent, id)).log_path ?? "", "utf8");
  assert.doesNotMatch(log, /OPENED|TRACED|STOLEN/);
  assert.match(log, /early [1-9]\d*/);
}

test("execs are closed to all capabilities of the pod", { skip }, () =>
  watch({ pid: NamespaceMode.CONTAINER }, (id) =>
    repeat(execs, 4, async () => {
      assert.equal((await exec(target.agent, id, ["true"])).exitCode, 0);
    }),
  ),
);

test("so are containers that build their roots, and the init, in the pod's PID namespace", { skip }, () =>
  watch({ pid: NamespaceMode.POD }, (_, pod) =>
    repeat(Math.ceil(execs / 10), 2, async () => {
      const security_context = { namespace_options: { pid: NamespaceMode.POD } };
      const tried = await attempt(target, { command: ["true"], linux: { security_context } }, pod);
      assert.equal(tried.exitCode, 0, JSON.stringify(tried));
    }),
  ),
);

test("the pod's root has no power over what is the host's", { skip }, async () => {
  const { agent, canary } = target;
  const pod = await runUserPod();
  const id = await runContainer(agent, pod, {
    mounts: [{ container_path: "/host", host_path: canary.directory }],
    linux: { security_context: { ...everything, namespace_options: { pid: NamespaceMode.CONTAINER } } },
  });
  const attacks = [
    "echo x >> /host/secret",
    "chown 0:0 /host/secret",
    "chmod 777 /host",
    "mount -o remount,rw /sys && echo x > /sys/kernel/uevent_helper",
    "mount -t sysfs x /tmp && echo x > /tmp/kernel/uevent_helper",
    "mount -t proc x /tmp && echo x > /tmp/sys/kernel/core_pattern",
    "mount -t devtmpfs x /tmp && ls /tmp",
    "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
    "mkdir /tmp/c; mount -t cgroup -o memory x /tmp/c && echo x > /tmp/c/release_agent",
    "nsenter -t 1 -m -u -i -n -p --root=/proc/1/root/../.. cat /host/secret && false",
    "dmesg -c",
    '! date -s 2000-01-01 2>&1 | grep -q "can\'t set"',
  ];
  for (const attack of attacks) {
    const { exitCode, stdout } = await exec(agent, id, attack);
    assert.ok(exitCode !== 0, `${attack}: ${stdout}`);
  }
  assert.equal(await out(agent, id, "stat -c %u:%g /host/secret"), "65534:65534");
  canary.assertUnchanged();
});
