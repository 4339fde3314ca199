#!/bin/busybox sh
# First process of the guest: reaches the disk and hands over to its /sbin/init. A failure ends the machine at once,
# as the kernel panics when this process exits and was started with panic=-1.
set -e
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "$module"; done </modules/order
/bin/busybox mount -t ext4 -o noatime,noinit_itable /dev/vda /root
/bin/busybox umount /proc
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
