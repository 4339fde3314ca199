export const defaultApparmorProfileName = "berth-default";

/**
 * What RuntimeDefault means, in apparmor_parser(8)'s language: a container does within its namespaces what its
 * capabilities allow, but mounts nothing, and leaves alone what the kernel shows of the whole machine in /proc and /sys.
 * Most of that is mounted read-only or masked as well; this holds for the root of a container that can undo mounts, too.
 * Nothing is included, so that it loads wherever there is a parser.
 */
export const defaultApparmorProfile = `
profile ${defaultApparmorProfileName} flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  capability,
  umount,

  # among the node's containers, whose PID namespaces keep them apart; and from outside: stop, kill, debug
  signal (send, receive) peer=${defaultApparmorProfileName},
  signal (receive) peer=unconfined,
  ptrace (trace, read, tracedby, readby) peer=${defaultApparmorProfileName},

  # of the kernel's memory nothing is seen
  deny /proc/{kcore,kmem,mem,sysrq-trigger} rwklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/{security,debug,tracing}/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,

  # its switches are not turned; a pod's sysctls are set before its containers start
  deny /proc/sys/** wkl,
  deny /proc/{acpi,asound,bus,fs,irq,scsi}/** wkl,
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wkl,
  deny /sys/fs/[^c]*/** wkl,
}
`;
