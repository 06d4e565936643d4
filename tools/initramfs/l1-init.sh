#!/bin/sh
# L1's init: loads KVM, runs one Linux guest (L2) under QEMU, and powers off.
# From the kernel command line: kvm.X=Y and kvm_intel.X=Y go to the modules;
# L1_STOP=init ends right after the first line (to time the boot alone), L1_STOP=kvm
# when KVM is loaded, L1_STOP=port by a write to the debug-exit port, as long as the screen is L1's;
# L2_CPUS=N gives L2 so many processors, L2_MEMORY=N so many MiB, L2_DISK=1 its kernel's image as a disk to read;
# L2_ARGS=a,b,c adds words to L2's command line; L1_EXITS=1 has KVM count L2's exits.
# The last act is a power-off; a failure is told to the debug-exit port before.

LEVEL=L1 # for say()
. /lib.sh

# Every line of L2 is shown with its layer. qemu's status comes through a file.
run_l2() {
	cr=$(printf '\r')
	[ -z "$L2_DISK" ] || set -- "$1" -drive if=none,id=disk,format=raw,readonly=on,file=/vmlinuz \
		-device virtio-blk-device,drive=disk
	args=$1
	shift
	{
		qemu -L /share -M microvm,x-option-roms=off,pit=off,pic=off,rtc=off \
			-accel kvm -cpu host -smp "${L2_CPUS:-1}" -m "${L2_MEMORY:-128}" -nodefaults -no-user-config \
			"$@" -display none -no-reboot -serial stdio \
			-kernel /vmlinuz -initrd /l2.cpio -append "$args" 2>&1
		echo $? >/qemu.status
	} | while IFS= read -r line; do
		line=${line%"$cr"}
		echo "L2| $line"
		case $line in
		*"L2: hello from init"*) : >/l2.hello ;;
		esac
	done
}

# The last processor goes and comes back, as KVM is loaded: it leaves VMX operation, waits for INIT and SIPI, and begins
# anew.
replug() {
	last=$1
	online=/sys/devices/system/cpu/cpu$last/online
	echo 0 >"$online" || fail "processor $last does not go"
	say "processor $last went: $(cat /sys/devices/system/cpu/online)"
	echo 1 >"$online" || fail "processor $last does not come back"
	say "processor $last is back: $(cat /sys/devices/system/cpu/online)"
}

# After some seconds in which the screen shows L1's console alone.
write_port() {
	say "a write to the debug-exit port follows"
	turns=40000
	while [ "$turns" -gt 0 ]; do
		turns=$((turns - 1))
	done
	port-write 0xf4 0
}

# A variable is written to the firmware and read back; ConOut is one that it has itself.
check_efi() {
	vars=/sys/firmware/efi/efivars
	variable=$vars/NestorTest-0f1e2d3c-4b5a-4697-8877-665544332211
	say "EFI of $(cat /sys/firmware/efi/fw_platform_size) bits, screens: $(cat /proc/fb)"
	say "EFI tables: $(tr '\n' ' ' </sys/firmware/efi/systab)"
	board=/sys/class/dmi/id/product_name
	[ ! -e $board ] || say "SMBIOS: $(cat $board)"
	load_modules efi.order
	mount -t efivarfs efivarfs "$vars" || fail "no efivarfs"
	set -- "$vars"/ConOut-*
	[ -e "$1" ] || fail "the firmware has no variable ConOut"
	printf '\007\000\000\000kept by the firmware' >"$variable" || fail "an EFI variable cannot be written"
	say "efivars: $(tr -d '\000\007' <"$variable")"
}

# tracefs counts them: a line for each reason, by its number in the SDM, for each interrupt that exits, by the
# interruption information, and for each MSR that exits.
count_exits() {
	mount -t tracefs tracefs /sys/kernel/tracing || fail "no tracefs"
	cd /sys/kernel/tracing/events/kvm
	{
		echo hist:keys=exit_reason >kvm_exit/trigger
		echo 'hist:keys=intr_info.hex if exit_reason == 1' >>kvm_exit/trigger
		echo hist:keys=write,ecx.hex >kvm_msr/trigger
	} || fail "exits cannot be counted"
	cd /
}

# say_counts TITLE KEY FILE: the lines of that histogram whose key the pattern matches.
say_counts() {
	sed -n "s/^{ $2 *} hitcount: *\([0-9]*\).*/\1 \2/p" "/sys/kernel/tracing/events/kvm/$3/hist" | sort -n |
		while read -r key count; do
			say "$1 $key: $count"
		done
}

say_exits() {
	say "exits of L2, enable_apicv=$(cat /sys/module/kvm_intel/parameters/enable_apicv):"
	say_counts exit 'exit_reason: *\([0-9]*\)' kvm_exit
	say_counts "exit 1 with" 'intr_info: *\([0-9a-f]*\)' kvm_exit
	say_counts "RDMSR of" 'write: *0, ecx: *\([0-9a-f]*\)' kvm_msr
	say_counts "WRMSR of" 'write: *1, ecx: *\([0-9a-f]*\)' kvm_msr
}

mount -t proc proc /proc
read -r uptime _ </proc/uptime
say "init runs on Linux $(cat /proc/sys/kernel/osrelease), $uptime s after the kernel's start"
[ ! -e /bin/ticks ] || say "clock $(ticks)"
[ "$L1_STOP" = init ] && finish 0
[ "$L1_STOP" = port ] && write_port
mount -t sysfs sysfs /sys
say "processors online: $(cat /sys/devices/system/cpu/online)"
mount -t devtmpfs dev /dev
say "ACPI's suspend to RAM: $(grep -c _S3_ /sys/firmware/acpi/tables/DSDT)"
[ ! -e /sys/firmware/efi ] || check_efi
load_kvm
processors=$(grep -c ^processor /proc/cpuinfo)
[ "$processors" = 1 ] || replug $((processors - 1))
[ "$L1_STOP" = kvm ] && finish 0
[ -z "$L1_EXITS" ] || count_exits
say "starting L2 under QEMU"
run_l2 "$(cat /l2.args) $(echo "$L2_ARGS" | tr , ' ')"
[ -e /l2.hello ] || fail "L2's init did not print its line"
[ "$(cat /qemu.status)" = 0 ] || fail "QEMU ended with status $(cat /qemu.status)"
say "L2 is done"
[ -z "$L1_EXITS" ] || say_exits
finish 0
