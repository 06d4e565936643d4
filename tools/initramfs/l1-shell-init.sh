#!/bin/sh
# L1's init of `make shell`: KVM is loaded, then a shell on the console; when it ends, L1 powers off.
# With NESTORCTL=a,b on the kernel's command line nestorctl does these instead, without KVM, and says their statuses.

LEVEL=L1 # for say()
. /lib.sh

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run /root
mount -t devpts devpts /dev/pts
hostname l1
load_modules msr.order
for words in $(echo "$NESTORCTL" | tr , ' '); do
	nestorctl "$words"
	say "nestorctl $words: status $?"
done
[ -z "$NESTORCTL" ] || finish 0
load_kvm
nestorctl id || :
cat <<END

This is L1: Linux $(uname -r) with KVM, on Nestor.
  l2              start a Linux as L2, with a shell of its own
  nestorctl top   what Nestor does below (nestorctl alone lists more)
  exit            power L1 off
END
cd /root
export HOME=/root TERM="${TERM:-vt100}" ENV=/etc/profile
setsid cttyhack sh
finish 0
