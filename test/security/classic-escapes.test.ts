/**
 * Ways out of a container that are older than the runtimes that have numbers for theirs: files by their handles, the
 * kernel's own files, modules, a second chroot, set-uid programs, keys, descriptors that were left open, devices.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import {
  containerStatus,
  importBusybox,
  long,
  NamespaceMode,
  out,
  readLog,
  runContainer,
  runPod,
  runToEnd,
  sh,
  waitExited,
} from "../support/workload.js";
import { attackTarget, compile, executable, sitesOf } from "./support.js";

const source = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static void tell(const char* what, long result) {
  printf("%s %s\\n", what, result >= 0 ? "done" : errno == EPERM || errno == EACCES ? "refused" : strerror(errno));
}
static int opens(const char* path, const struct stat* status, int type, struct FTW* place) {
  if (type == FTW_F && !access(path, F_OK)) {
    const int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
    if (fd >= 0) puts(path);
    if (fd >= 0) close(fd);
  }
  return 0;
}
int main(int count, char** words) {
  const char* attack = words[1];
  if (!strcmp(attack, "handle")) {
    // the root directory of a file system of the host's, by the number that it has everywhere
    struct { struct file_handle handle; unsigned inode[2]; } root = {{8, 1}, {2, 0}};
    const int volume = open(words[2], O_RDONLY);
    tell("open_by_handle_at", syscall(SYS_open_by_handle_at, volume, &root, O_RDONLY));
  } else if (!strcmp(attack, "kernel files")) {
    for (int i = 2; i < count; ++i) nftw(words[i], opens, 64, FTW_PHYS);
  } else if (!strcmp(attack, "calls")) {
    struct timeval never = {-1, 0};
    tell("init_module", syscall(SYS_init_module, NULL, 0, ""));
    tell("delete_module", syscall(SYS_delete_module, "no-such-module", 0));
    tell("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    tell("swapon", swapon("/etc/passwd", 0));
    tell("acct", acct("/etc/passwd"));
    tell("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    tell("umount", umount2("/etc/hosts", MNT_DETACH));
    tell("pivot_root", syscall(SYS_pivot_root, "/", "/tmp"));
    tell("unshare", unshare(CLONE_NEWNS));
    tell("setns", setns(open("/proc/self/ns/uts", O_RDONLY), 0));
    tell("sethostname", sethostname("x", 1));
    tell("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
  } else if (!strcmp(attack, "chroot")) {
    mkdir("/tmp/hole", 0755);
    tell("chroot", chroot("/tmp/hole"));
    for (int i = 0; i < 100; ++i) chdir("..");
    tell("chroot again", chroot("."));
    printf("there is %s\\n", access("/own-mark", F_OK) == 0 ? "the container's root" : "another root");
  } else if (!strcmp(attack, "ids")) {
    printf("%d %d\\n", getuid(), geteuid());
  } else if (!strcmp(attack, "leave a key")) {
    tell("add_key", syscall(SYS_add_key, "user", words[2], "secret", 6, KEY_SPEC_SESSION_KEYRING));
    fflush(stdout);
    pause();
  } else if (!strcmp(attack, "find a key")) {
    tell("search", syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", words[2], 0));
    tell("request", syscall(SYS_request_key, "user", words[2], NULL, 0));
  } else if (!strcmp(attack, "descriptors")) {
    for (int fd = 0; fd < 65536; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
    }
    puts("");
    fflush(stdout);
    if (count > 2) pause();
  }
  return 0;
}`;

const image = { image: { image: "berth.test/escapes:1" } };
const target = attackTarget(async ({ agent }) => {
  const program = compile(agent, "escapes", source);
  await importBusybox(agent, image.image.image, {
    layers: [
      [
        executable("escape", program),
        { path: "set-uid", mode: 0o4755, content: program },
        { path: "own-mark", content: "" },
      ],
    ],
  });
});

const context = (security_context: runtime.v1.ILinuxContainerSecurityContext) => ({ linux: { security_context } });
const unconfined = { seccomp: { profile_type: 1 } };
const lines = (text: string) => text.trimEnd().split("\n");

async function ranAs(...command: string[]): Promise<string> {
  return (await runToEnd(target.agent, target.pod, { ...image, command: ["/escape", ...command] })).output;
}

test("a file of the host's by its handle, on the file system of a mounted file", async () => {
  assert.equal(await ranAs("handle", "/etc/hosts"), "open_by_handle_at refused\n");
});

test("no file of the kernel's can be opened for writing, in the host's namespaces neither", async () => {
  const command = ["/escape", "kernel files", "/sys", ...["sys", "irq", "bus", "fs"].map((name) => `/proc/${name}`)];
  const modes = { network: NamespaceMode.NODE, pid: NamespaceMode.NODE, ipc: NamespaceMode.NODE };
  const ofHost = await runPod(target.agent, context({ namespace_options: modes }));
  for (const [pod, more] of [
    [target.pod, {}],
    [ofHost, context({ namespace_options: modes })],
  ] as const) {
    const id = await runContainer(target.agent, pod, { ...image, command, ...more });
    // there are many thousands of them
    const status = await waitExited(target.agent, id, 60_000);
    assert.deepEqual([status.exit_code, await readLog(status.log_path ?? "")], [0, []]);
  }
});

test("what is the host's to do is refused by the kernel, also without a seccomp filter", async () => {
  for (const more of [context(unconfined), context({ seccomp: { profile_type: 0 } })]) {
    const { output } = await runToEnd(target.agent, target.pod, { ...image, command: ["/escape", "calls"], ...more });
    const told = lines(output);
    assert.equal(told.length, 12);
    for (const line of told) assert.match(line, / (refused|Function not implemented)$/);
  }
});

test("a second chroot leads to the container's root again", async () => {
  assert.equal(await ranAs("chroot"), "chroot done\nchroot again done\nthere is the container's root\n");
});

test("a set-uid program gives nothing with no_new_privs, and root's number alone without", async () => {
  const told = async (no_new_privs: boolean) => {
    const script = "/set-uid ids; cp /set-uid /tmp/copy 2>/dev/null && chmod 4755 /tmp/copy && /tmp/copy ids";
    const user = { run_as_user: { value: long(1000) }, no_new_privs, ...unconfined };
    return lines((await runToEnd(target.agent, target.pod, { ...image, ...sh(script), ...context(user) })).output);
  };
  assert.equal((await told(true))[0], "1000 1000");
  assert.deepEqual(await told(false), ["1000 0", "1000 1000"]);
});

test("keys of a container are not another's, nor an exec's, nor those of whoever started the agent", async () => {
  const { agent, pod } = target;
  const left = { ...image, command: ["/escape", "leave a key", "of-a-container"], ...context(unconfined) };
  const id = await runContainer(agent, pod, left);
  const find = ["/escape", "find a key", "of-a-container"];
  const nothing = ["search Required key not available", "request Required key not available"];
  const other = await runToEnd(agent, pod, { ...image, command: find, ...context(unconfined) });
  assert.deepEqual(lines(other.output), nothing);
  assert.deepEqual(lines(await out(agent, id, find)), nothing);
});

async function firstLine(id: string): Promise<string> {
  const { log_path } = await containerStatus(target.agent, id);
  for (let tries = 0; tries < 500; tries++) {
    const [first] = await readLog(log_path ?? "");
    if (first !== undefined) return first.text.trim();
  }
  throw new Error(`container ${id} has written nothing`);
}

test("no descriptor is left open: the program and execs have their streams alone, however they were made", async () => {
  const { agent } = target;
  const command = ["/escape", "descriptors", "stay"];
  const shared = { namespace_options: { pid: NamespaceMode.POD } };
  for (const { what, pod, configOf } of await sitesOf(target)) {
    const first = await runContainer(agent, pod, { ...configOf({}), ...image });
    const ofTarget = { namespace_options: { pid: NamespaceMode.TARGET, target_id: first } };
    for (const more of [
      {},
      { tty: true },
      { stdin: true },
      { stdin: true, tty: true },
      context(shared),
      context(ofTarget),
    ]) {
      const id = await runContainer(agent, pod, configOf({ ...image, command, ...more }));
      assert.equal(await firstLine(id), "0 1 2", `${what}: ${JSON.stringify(more)}`);
      assert.equal(await out(agent, id, ["/escape", "descriptors"]), "0 1 2", what);
      await agent.client.call("RemoveContainer", { container_id: id });
    }
  }
});

test("memory, ports, logs and disks of the host do not open by nodes that a container makes", async () => {
  const disks = readFileSync("/proc/partitions", "utf8").matchAll(/^ +(\d+) +(\d+) +\d+ \S+$/gm);
  const nodes = [
    ...["c 1 1", "c 1 2", "c 1 4", "c 1 11", "c 5 1", "c 4 0", "c 10 237"],
    ...[...disks].map(([, major, minor]) => `b ${major} ${minor}`).slice(0, 20),
  ];
  const script = nodes
    .map(
      (node) =>
        `mknod /node ${node}; for way in '<' '>'; do (eval ": $way /node") 2>/dev/null && echo ${node}; done; rm /node`,
    )
    .join("\n");
  for (const capabilities of [{}, { add_capabilities: ["ALL"] }]) {
    const { status, output } = await runToEnd(target.agent, target.pod, {
      ...image,
      ...sh(`${script}\nexit 7`),
      ...context({ capabilities, ...unconfined }),
    });
    assert.deepEqual([status.exit_code, output], [7, ""]);
  }
});
