/**
 * The RuntimeDefault seccomp profile: what is not listed fails with EPERM. The set of calls is the one that Docker and
 * containerd allow by default, so that images behave alike; some calls come with a capability, as there.
 */
import { capabilityMask } from "./capabilities.js";
import type { LinuxSeccomp, LinuxSeccompArg, LinuxSyscall } from "./oci.js";

const allow = "SCMP_ACT_ALLOW";
const errno = "SCMP_ACT_ERRNO";
const eperm = 1;
const enosys = 38;

const words = (text: string): string[] => text.trim().split(/\s+/);

const always = [
  // files and directories
  ...words(`
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
    fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 link linkat _llseek lseek lstat
    lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 readahead readlink
    readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
    syncfs truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes listmount statmount`),
  // extended attributes
  ...words(`
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr lremovexattr
    lsetxattr removexattr removexattrat setxattr setxattrat`),
  // reading, writing, waiting for either
  ...words(`
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll
    ppoll_time64 pread64 preadv preadv2 pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readv select sendfile
    sendfile64 signalfd signalfd4 splice tee vmsplice write writev`),
  // sockets; which families, see below
  ...words(`
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg send
    sendmmsg sendmsg sendto setsockopt shutdown socketpair`),
  // memory
  ...words(`
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
    mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease
    remap_file_pages`),
  // processes and threads; clone and clone3, see below
  ...words(`
    capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv
    futex_wake getcpu getpgid getpgrp getpid getppid getpriority get_robust_list getrlimit getrusage getsid get_thread_area
    gettid ioprio_get ioprio_set kill pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq sched_getaffinity
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
    setpgid setpriority setrlimit set_robust_list setsid set_thread_area set_tid_address tgkill tkill ugetrlimit vfork wait4
    waitid waitpid landlock_add_rule landlock_create_ruleset landlock_restrict_self process_vm_readv process_vm_writev
    ptrace uretprobe`),
  // users and groups
  ...words(`
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid getresuid32
    getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32`),
  // signals
  ...words(`
    pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn`),
  // System V and POSIX interprocess communication
  ...words(`
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
    msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget`),
  // time
  ...words(`
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times`),
  // the rest
  ...words("getrandom sysinfo uname"),
];

const byArchitecture: Record<string, string[]> = {
  x64: words("arch_prctl modify_ldt"),
  arm64: words("arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
  ppc64: words("swapcontext sync_file_range2"),
  s390x: words("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
  riscv64: words("riscv_flush_icache riscv_hwprobe"),
};

const byCapability: [capability: string, names: string[]][] = [
  ["CAP_BPF", words("bpf")],
  ["CAP_DAC_READ_SEARCH", words("open_by_handle_at")],
  ["CAP_PERFMON", words("perf_event_open")],
  [
    "CAP_SYS_ADMIN",
    words(`
      bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
      lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
      sethostname setns syslog umount umount2 unshare`),
  ],
  ["CAP_SYS_BOOT", words("reboot")],
  ["CAP_SYS_CHROOT", words("chroot")],
  ["CAP_SYS_MODULE", words("delete_module finit_module init_module")],
  ["CAP_SYS_NICE", words("get_mempolicy mbind set_mempolicy set_mempolicy_home_node")],
  ["CAP_SYS_PACCT", words("acct")],
  ["CAP_SYS_PTRACE", words("kcmp pidfd_getfd process_madvise")],
  ["CAP_SYS_RAWIO", words("ioperm iopl")],
  ["CAP_SYS_TIME", words("clock_settime clock_settime64 settimeofday stime")],
  ["CAP_SYS_TTY_CONFIG", words("vhangup")],
  ["CAP_SYSLOG", words("syslog")],
];

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET together. */
const namespaceFlags = 0x7e02_0000;

/** PER_LINUX, PER_LINUX32, both with UNAME26, and the question (all ones). */
const personalities = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const afAlg = 38;
const afVsock = 40;

/** By what the profile depends on; containers share it, so that it is never changed. */
const made = new Map<string, LinuxSeccomp>();
const relevant = capabilityMask(byCapability.map(([capability]) => capability));

/** The profile for a container with these capabilities in its bounding set; `arch` is Node's name of it. */
export function defaultSeccompProfile(bounding: readonly string[], arch: string): LinuxSeccomp {
  const mask = capabilityMask(bounding) & relevant;
  const key = `${arch} ${mask}`;
  const profile = made.get(key) ?? makeProfile(mask, arch);
  made.set(key, profile);
  return profile;
}

function makeProfile(mask: bigint, arch: string): LinuxSeccomp {
  const has = (name: string): boolean => (mask & capabilityMask([name])) !== 0n;
  const allowed = new Set([...always, ...(byArchitecture[arch] ?? [])]);
  for (const [capability, names] of byCapability) {
    if (has(capability)) for (const name of names) allowed.add(name);
  }
  const syscalls: LinuxSyscall[] = [
    // of 32-bit programs: it hides the family behind a pointer. They take ENOSYS for "use socket and the others", which
    // there are since Linux 4.3. The first rule: later ones bring socketcall with them.
    { names: ["socketcall"], action: errno, errnoRet: enosys },
    { names: [...allowed].sort(), action: allow },
    // AF_ALG is the kernel's crypto, AF_VSOCK leads to the hypervisor past every network policy
    only("socket", { index: 0, value: afAlg, op: "SCMP_CMP_LT" }),
    only("socket", { index: 0, value: afAlg + 1, op: "SCMP_CMP_EQ" }),
    only("socket", { index: 0, value: afVsock, op: "SCMP_CMP_GT" }),
    ...personalities.map((value) => only("personality", { index: 0, value, op: "SCMP_CMP_EQ" })),
  ];
  if (!has("CAP_SYS_ADMIN")) {
    syscalls.push(
      only("clone", { index: arch === "s390x" ? 1 : 0, value: namespaceFlags, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }),
      // its flags are behind a pointer: C libraries take ENOSYS for "use clone"
      { names: ["clone3"], action: errno, errnoRet: enosys },
    );
  }
  return { defaultAction: errno, defaultErrnoRet: eperm, architectures: architecturesOf(arch), syscalls };
}

function only(name: string, arg: LinuxSeccompArg): LinuxSyscall {
  return { names: [name], action: allow, args: [arg] };
}

/** The native one, and those whose programs such a machine runs, too. */
function architecturesOf(arch: string): string[] {
  const names: Record<string, string[]> = {
    x64: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    arm64: ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    ppc64: ["SCMP_ARCH_PPC64LE"],
    s390x: ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
    riscv64: ["SCMP_ARCH_RISCV64"],
  };
  return names[arch] ?? [];
}
