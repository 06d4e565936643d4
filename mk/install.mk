# Nestor on a machine of today: the image for GRUB, its entries, nestorctl; and the same as a Debian package.
DESTDIR ?=
SBINDIR := /usr/sbin
MANDIR := /usr/share/man
MANUALS := man1/nestorctl.1 man8/nestor-boot-once.8
INSTALLED := /boot/nestor.elf $(SBINDIR)/nestorctl $(SBINDIR)/nestor-boot-once /etc/grub.d/20_nestor \
	/etc/default/nestor $(MANUALS:%=$(MANDIR)/%.gz)
STRIP ?= $(CROSS_COMPILE)strip
# GRUB's menu is made anew only on the machine itself.
UPDATE_GRUB := if [ -z "$(DESTDIR)" ] && command -v update-grub >/dev/null; then update-grub; fi

.PHONY: install uninstall deb install-files
install: nestor nestorctl install-files ## put Nestor into GRUB's menu of this machine (root; DESTDIR=: a folder)
	@$(UPDATE_GRUB)
	@echo "Installed. Look with: nestorctl check    Start it once with: nestor-boot-once && systemctl reboot"

# A changed /etc/default/nestor stays.
install-files:
	install -d $(DESTDIR)/boot $(DESTDIR)$(SBINDIR) $(DESTDIR)/etc/grub.d $(DESTDIR)/etc/default
	$(STRIP) -o build/nestor.stripped build/nestor.elf
	install -m 644 build/nestor.stripped $(DESTDIR)/boot/nestor.elf
	install -m 755 build/nestorctl/nestorctl $(DESTDIR)$(SBINDIR)/nestorctl
	install -m 755 tools/install/nestor-boot-once $(DESTDIR)$(SBINDIR)/nestor-boot-once
	install -m 755 tools/install/20_nestor $(DESTDIR)/etc/grub.d/20_nestor
	for manual in $(MANUALS); do \
		install -d $(DESTDIR)$(MANDIR)/$${manual%/*} && \
		gzip -9nc docs/man/$${manual#*/} >$(DESTDIR)$(MANDIR)/$$manual.gz && \
		chmod 644 $(DESTDIR)$(MANDIR)/$$manual.gz || exit 1; \
	done
	[ -e $(DESTDIR)/etc/default/nestor ] || \
		install -m 644 tools/install/nestor.default $(DESTDIR)/etc/default/nestor

uninstall: ## take it out again, the options file too
	rm -f $(INSTALLED:%=$(DESTDIR)%)
	@$(UPDATE_GRUB)

deb: nestor nestorctl ## the same as a Debian package, build/nestor_VERSION_amd64.deb
	tools/mkdeb

.PHONY: usb
usb: nestor efi shell-assets ## an image for a USB stick, for BIOS and UEFI: Nestor, Linux with KVM, a shell
	tools/mkusb

.PHONY: bench-iso
bench-iso: nestor guests ## an image for a USB stick with guests/bench: a real CPU's cycles (docs/PERFORMANCE.md)
	tools/mkusb --bench
