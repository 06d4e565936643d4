#!/bin/sh
# init of the slow tests' Linux: says on which kernel it runs, lets KVM run its smallest guest where KVM's modules are
# there, and powers off. From the kernel command line: LEVEL=L1 says who speaks, GUEST=L2 whose words the guest's are,
# KVM=0 leaves KVM alone, kvm.X=Y and kvm_intel.X=Y go to the modules.
# A failure is told to the debug-exit port before the power-off.

. /lib.sh

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
say "hello from init on Linux $(cat /proc/sys/kernel/osrelease)"
grep -q hypervisor /proc/cpuinfo && say "this CPU says that it is virtual"
[ ! -e /sys/power/mem_sleep ] || say "suspend: $(cat /sys/power/mem_sleep)"
if [ -e /lib/modules/order ] && [ "$KVM" != 0 ]; then
	load_kvm
	kvm-mini "$GUEST" || fail "KVM could not run its guest"
fi
finish 0
