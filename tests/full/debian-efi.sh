#!/bin/sh
# What the Debian of debian-efi.t does at its start: it tells what machine it sees, lets KVM run a Linux guest if
# that is under Nestor, and powers off.
exec >/dev/ttyS0 2>&1
say() {
	echo "L1: $*"
}

say "Debian $(cat /etc/debian_version) on Linux $(uname -r), processors $(cat /sys/devices/system/cpu/online)"
dmesg | grep -o 'efi: mem[0-9]*: .*'
say "end of the memory map"
dmesg | grep -o 'efi: ACPI.*=0x.*'
for table in /sys/firmware/dmi/tables/*; do
	[ ! -e "$table" ] || say "dmi $(sha256sum "$table")"
done
say "before, $(efibootmgr | grep ^Timeout)"
efibootmgr -q -t 7
say "after, $(efibootmgr | grep ^Timeout)"
if ! nestorctl id; then
	say "bare, so no KVM: the machine was all that is compared"
	systemctl poweroff
	exit
fi
modprobe kvm_intel && say "kvm_intel is loaded: ept=$(cat /sys/module/kvm_intel/parameters/ept)"
qemu-system-x86_64-microvm -M microvm,x-option-roms=off,pit=off,pic=off,rtc=off -accel kvm -cpu host -m 128 \
	-nodefaults -no-user-config -display none -no-reboot -serial stdio -kernel /srv/l2/vmlinuz \
	-initrd /srv/l2/initrd -append "$(cat /srv/l2/arguments)" </dev/null
say "QEMU ended with status $?"
systemctl poweroff
