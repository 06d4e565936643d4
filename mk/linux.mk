# Linux as L1 and L2: Debian's kernel, and the initramfs with KVM, QEMU and L2's image.
L1_KERNEL := build/linux/vmlinuz
L1_INITRD := build/initramfs-l1.cpio

.PHONY: linux-assets
linux-assets: $(L1_KERNEL) $(L1_INITRD)

$(L1_KERNEL):
	tools/setup linux

# The kernel's file keeps the date it has in the package: any initramfs is newer.
$(L1_INITRD): $(L1_KERNEL) tools/mkinitramfs $(wildcard tools/initramfs/*) tools/nestorlib/linux.py \
		tools/nestorlib/initramfs.py
	tools/mkinitramfs --kernel-dir $(dir $(L1_KERNEL)) --output $@

SHELL_INITRD := build/initramfs-shell.cpio

$(SHELL_INITRD): $(L1_INITRD) $(NESTORCTL) tools/mkshell $(wildcard tools/initramfs/*shell*)
	tools/mkshell

.PHONY: shell shell-assets
shell-assets: $(SHELL_INITRD)

shell: setup ## a shell in L1 with KVM, and by the command l2 one in L2; exit ends it, Ctrl-A x leaves; CPUS=2
	$(MAKE) nestor nestorctl shell-assets
	@tools/run-shell $(if $(CPUS),--cpus $(CPUS))
