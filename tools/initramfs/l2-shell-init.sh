#!/bin/sh
# L2's init of `make shell`: a shell on its console; when it ends, L2 powers off and L1's shell goes on.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
hostname l2
echo
echo "This is L2: Linux $(uname -r), a guest of L1's KVM. exit leads back to L1."
export PS1='L2# ' TERM="${TERM:-vt100}"
setsid cttyhack sh
poweroff -f
