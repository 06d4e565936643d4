# Our own L1 images: build/guests/*.elf, 32-bit multiboot1 ELF files made from freestanding 64-bit code.
GUEST_IMAGES := scenarios demo mini diff bitmapbench bench smp off pages
GUEST_ELFS := $(GUEST_IMAGES:%=build/guests/%.elf) build/guests/evmcs/scenarios.elf \
	build/guests/evmcs/bitmapbench.elf

OBJCOPY ?= $(CROSS_COMPILE)objcopy
# -Wno-clobbered, which only gcc knows: what a faulting statement changed in a local variable is lost, and FAULT_OF()
# says so.
GUEST_CFLAGS := -std=gnu11 -ffreestanding -O2 -g -mno-red-zone -mgeneral-regs-only -mcmodel=small -fno-pic -fno-pie \
	-fno-stack-protector -fno-asynchronous-unwind-tables -fno-strict-aliasing -fcf-protection=none \
	-ffile-prefix-map='$(CURDIR)=.' -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wundef \
	-Wvla -Wno-unknown-warning-option \
	-Wno-clobbered -I.
GUEST_LDFLAGS := -m elf_x86_64 -nostdlib -static -z max-page-size=4096 --build-id=none -z noexecstack \
	-T guests/lib/guest.ld

guest_objects = $(patsubst %.c,build/%.o,$(wildcard $1/*.c)) $(patsubst %.asm,build/%.asm.o,$(wildcard $1/*.asm))
GUEST_LIB_OBJECTS := $(call guest_objects,guests/lib)

.PHONY: guests
guests: $(GUEST_ELFS)

build/guests/%.o: guests/%.c mk/guests.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@

build/guests/%.asm.o: guests/%.asm $(wildcard guests/lib/*.inc) mk/guests.mk
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) -f elf64 -I ./ $< -o $@

# What an image takes of Nestor's own sources, and of another image's.
GUEST_BORROWS_bench := kernel/screen kernel/font smp/second smp/ap.asm

build/guests/kernel/%.o: kernel/%.c mk/guests.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@

define guest_image
build/guests/$1.elf64: $$(call guest_objects,guests/$1) $$(GUEST_LIB_OBJECTS) guests/lib/guest.ld \
		$$(GUEST_BORROWS_$1:%=build/guests/%.o)
	$$(LD) $$(GUEST_LDFLAGS) -o $$@ $$(filter %.o,$$^)
build/guests/$1.elf: build/guests/$1.elf64
	$$(OBJCOPY) -O elf32-i386 --strip-debug $$< $$@
endef
$(foreach image,$(GUEST_IMAGES),$(eval $(call guest_image,$(image))))

# The scenarios, and the bench of bitmaps, once more, where each VMCS is an enlightened one (guests/evmcs/evmcs.h):
# evmcs/scenarios.elf and evmcs/bitmapbench.elf. What of guests/lib and of their own depends on it is built anew.
ENLIGHTENED_LIB := build/guests/evmcs/evmcs.o $(patsubst build/guests/%,build/guests/evmcs/%,\
	build/guests/lib/vmx.o build/guests/lib/vm_enter.asm.o) \
	$(filter-out build/guests/lib/vmx.o build/guests/lib/vm_enter.asm.o,$(GUEST_LIB_OBJECTS))
build/guests/evmcs/%.o: guests/%.c mk/guests.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) -DENLIGHTENED -MMD -MP -c $< -o $@
build/guests/evmcs/%.asm.o: guests/%.asm $(wildcard guests/lib/*.inc) mk/guests.mk
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) -f elf64 -DENLIGHTENED -I ./ $< -o $@
build/guests/evmcs/%.elf64: build/guests/evmcs/%/main.o $(ENLIGHTENED_LIB) guests/lib/guest.ld
	$(LD) $(GUEST_LDFLAGS) -o $@ $(filter %.o,$^)
build/guests/evmcs/scenarios.elf64: build/guests/evmcs/scenarios.o \
	$(filter-out build/guests/scenarios/main.o,$(call guest_objects,guests/scenarios))
build/guests/evmcs/%.elf: build/guests/evmcs/%.elf64
	$(OBJCOPY) -O elf32-i386 --strip-debug $< $@

-include $(wildcard build/guests/evmcs/*/*.d)
-include $(wildcard build/guests/*/*.d)
