#!/bin/sh
# L0's init where Linux KVM is what is measured: runs guests/bench as its L1 under QEMU, and powers off. This QEMU,
# the smallest of Debian's, knows no power-off of L1's: its last line ends the run.
# From the kernel command line: cpus=N for QEMU and L1, rows=KEY, each=1 and behind=KEY for L1, and kvm.X=Y and
# kvm_intel.X=Y for the modules.

LEVEL=L0 # for say()
. /lib.sh

# Two virtual processors that wait for each other on one of L0 would take turns by its clock. The youngest thread is
# the second of them.
part_threads() {
	last=0
	for task in "/proc/$(pidof qemu)/task/"*; do
		task=${task##*/}
		taskset -p 1 "$task"
		[ "$task" -le "$last" ] || last=$task
	done
	taskset -p 2 "$last"
}

# The serial port is left a second for what it has not sent yet.
run_bench() {
	cr=$(printf '\r')
	words=$(grep -oE "(cpus|rows|each|behind)=[^ ]*" /proc/cmdline | tr '\n' ' ')
	cpus=$(grep -o "cpus=[^ ]*" /proc/cmdline)
	qemu -L /seabios -M microvm,rtc=off -accel kvm -cpu host -smp "$cpus" -m 256 -nodefaults -no-user-config \
		-display none -no-reboot -serial stdio -kernel /bench.elf -append "$words" 2>&1 |
		while IFS= read -r line; do
		line=${line%"$cr"}
		echo "$line"
		case $line in
		"qemu: multiboot knows VBE"*)
			[ "$cpus" != cpus=2 ] || part_threads >/dev/null
			;;
		"bench: end"*)
			sleep 1
			finish 0
			;;
		esac
	done
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
load_kvm
say "nested=$(cat /sys/module/kvm_intel/parameters/nested), l1tf: $(cat /sys/devices/system/cpu/vulnerabilities/l1tf)"
run_bench
fail "the benchmark did not print its last line"
