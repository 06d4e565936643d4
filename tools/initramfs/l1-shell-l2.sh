#!/bin/sh
# l2 [WORDS]: a Linux as L2 under QEMU with KVM, its console here; WORDS go to its kernel's command line.
exec qemu -L /share -M microvm,x-option-roms=off,pit=off,pic=off,rtc=off -accel kvm -cpu host -smp "${L2_CPUS:-1}" \
	-m "${L2_MEMORY:-192}" -nodefaults -no-user-config -display none -no-reboot -serial stdio -kernel /vmlinuz \
	-initrd /l2-shell.cpio -append "$(cat /l2.args) $*"
