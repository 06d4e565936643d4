# nestor.efi: Nestor's image inside a UEFI application (efi/). Its own code is position-independent and knows the
# image's addresses as numbers.
NESTOR_EFI := $(OUT)/nestor.efi
EFI_CFLAGS := $(filter-out -mcmodel=kernel -fno-pic -fno-pie $(LTO),$(CFLAGS)) -fpic -fvisibility=hidden \
	-fcf-protection=branch -fno-jump-tables $(if $(findstring clang,$(CC)),,-fno-tree-loop-distribute-patterns)
EFI_OBJECTS := $(patsubst %.c,$(OUT)/%.o,$(sort $(wildcard efi/*.c)))

.PHONY: efi
efi: $(NESTOR_EFI) ## build nestor.efi alone, which the firmware starts (docs/HARDWARE.md)

$(EFI_OBJECTS): $(OUT)/%.o: %.c Makefile mk/efi.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(EFI_CFLAGS) -MMD -MP -c $< -o $@

$(OUT)/nestor.bin: $(OUT)/nestor.elf
	$(call say,OBJCOPY)
	$(Q)$(OBJCOPY) -O binary $< $@

$(OUT)/efi/header.asm.o: efi/header.asm $(OUT)/nestor.bin $(OUT)/boot/boot_values.inc mk/efi.mk
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) -f elf64 -Werror -I $(OUT)/ -DNESTOR_IMAGE='"$(OUT)/nestor.bin"' $< -o $@

$(NESTOR_EFI): $(OUT)/efi/header.asm.o $(EFI_OBJECTS) $(OUT)/nestor.elf efi/efi.ld
	$(call say,LINK)
	$(Q)$(LD) -m elf_x86_64 -nostdlib -static --build-id=none -z noexecstack --no-relax \
		--just-symbols=$(OUT)/nestor.elf -T efi/efi.ld -o $(@:.efi=.efi.elf) $(filter %.o,$^)
	$(Q)$(OBJCOPY) -O binary $(@:.efi=.efi.elf) $@

# A machine owner key, as mokutil enrols it: with it shim starts the signed image where Secure Boot is on.
.PHONY: sign
sign: efi ## sign nestor.efi for Secure Boot, as build/nestor.signed.efi: KEY=mok.key CERT=mok.crt
	@[ -n "$(KEY)" ] && [ -n "$(CERT)" ] || \
		{ echo "make sign: name key and certificate: KEY=FILE CERT=FILE" >&2; exit 2; }
	@command -v sbsign >/dev/null || \
		{ echo "make sign: sbsign is missing (Debian's package sbsigntool)" >&2; exit 2; }
	sbsign --key $(KEY) --cert $(CERT) --output $(OUT)/nestor.signed.efi $(NESTOR_EFI)

-include $(EFI_OBJECTS:.o=.d)
