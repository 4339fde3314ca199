#!/bin/sh
# The guest's init: the mounts and modules that a booted Debian has, then the tests, then power off.
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev shm /dev/shm
mount -t mqueue mqueue /dev/mqueue 2>/dev/null
mount -t tmpfs -o nosuid,nodev,mode=755 run /run
# of the older kind, systemd mounts them itself
grep -q unified_cgroup_hierarchy=0 /proc/cmdline ||
  mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
if grep -q security=selinux /proc/cmdline; then
  mount -t selinuxfs selinuxfs /sys/fs/selinux
  # the kernel wants it in one piece
  dd if=/usr/share/selinux/debian.policy of=/sys/fs/selinux/load bs=64M status=none || echo "init: no SELinux policy"
fi
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount --make-rshared /
mkdir -p /run/lock /run/netns
while read -r module; do insmod "$module" || echo "init: no module $module"; done <"/modules/$(uname -r)/order"
hostname berth-vm
ip link set lo up
ulimit -n 65536
ulimit -c 0
if grep -q berth.init=systemd /proc/cmdline; then
  exec /usr/lib/systemd/systemd --unit=berth-vm.target --log-target=console --log-level=notice --show-status=no
fi
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd /berth
node dist/test/vm/guest/main.js || echo "init: the runner ended with $?"
sync
poweroff -f
