# Nestor: `make help` lists the targets.
CROSS_COMPILE ?=
ifeq ($(origin CC),default)
CC := $(CROSS_COMPILE)gcc
endif
ifeq ($(origin LD),default)
LD := $(CROSS_COMPILE)ld
endif
NASM ?= nasm
CLANG_FORMAT ?= clang-format

CPPFLAGS := -I.
WARNINGS := -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wold-style-definition -Wshadow -Wundef \
	-Wpointer-arith -Wwrite-strings -Wvla -Wimplicit-fallthrough -Wcast-qual -Wformat=2 -Wredundant-decls
CFLAGS := -std=c11 -O2 -g -ffreestanding -mcmodel=kernel -mno-red-zone -mno-mmx -mno-sse -mgeneral-regs-only \
	-fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none \
	-ffile-prefix-map='$(CURDIR)=.' $(WARNINGS)
LDFLAGS := -m elf_x86_64 -nostdlib -static -z max-page-size=4096 -z noexecstack --build-id=none \
	--orphan-handling=error -T linker.ld
# The whole program is one unit to the compiler: an exit passes through all layers, and most of its calls fall away.
# LTO= switches that off, as for clang, which has no such link.
LTO ?= $(if $(findstring clang,$(CC)),,-flto=auto)
CFLAGS += $(LTO)

# CHECKED=1 is a second build in a folder of its own: it looks at the result of every VMREAD and VMWRITE.
# COUNT_VMX=1 is a third: it counts the VMX instructions that it executes.
OUT := build$(if $(CHECKED),/checked)$(if $(COUNT_VMX),/count)
CPPFLAGS += $(if $(CHECKED),-DCHECKED) $(if $(COUNT_VMX),-DCOUNT_VMX)

# V=1 shows the commands; otherwise a line for each file.
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $1	$(or $2,$@)")

LAYERS := boot kernel mm l1 vmx nested/rules nested/ept02 nested/bitmap nested/evmcs nested debug start
VALUES := $(sort $(wildcard $(LAYERS:%=%/*_values.c)))
C_SOURCES := $(filter-out $(VALUES),$(sort $(wildcard $(LAYERS:%=%/*.c))))
ASM_SOURCES := $(sort $(wildcard $(LAYERS:%=%/*.asm)))
ASM_OBJECTS := $(ASM_SOURCES:%.asm=$(OUT)/%.asm.o)
OBJECTS := $(C_SOURCES:%.c=$(OUT)/%.o) $(ASM_OBJECTS)

.DELETE_ON_ERROR:
.PHONY: bitmap-report test-cpus bench bench-bitmap bench-quick bench-record all help nestor setup run demo mini check \
	test clean diff diff-models

all: nestor efi guests ## build Nestor, nestor.efi, and the guests of our own (default)

nestor: $(OUT)/nestor.elf ## build Nestor alone; CHECKED=1 in build/checked, COUNT_VMX=1 in build/count; V=1: commands

$(OUT)/nestor.elf: $(OBJECTS) linker.ld
	$(call say,LINK)
	$(Q)$(if $(LTO),$(CC) $(CFLAGS) -r -z noexecstack -flinker-output=nolto-rel -nostdlib \
		-o $(OUT)/nestor.o $(OBJECTS))
	$(Q)$(LD) $(LDFLAGS) -o $@ $(if $(LTO),$(OUT)/nestor.o,$(OBJECTS))

$(OUT)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# The compiler must not make a call of strlen() out of the loop that is strlen().
$(OUT)/kernel/string.o: CFLAGS += -fno-builtin -fno-lto

# What assembly needs of C, as an include file: kernel/asm_value.h.
$(OUT)/%_values.inc: %_values.c Makefile
	@mkdir -p $(@D)
	$(call say,VALUES,$<)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out $(LTO),$(CFLAGS)) -MMD -MP -MT $@ -MF $(@:.inc=.d) -S $< -o $(@:.inc=.s)
	$(Q)sed -n '/.*\.ascii[^"]*"@\(.*\)".*/ { s//\1/; s/\$$//; p }' $(@:.inc=.s) > $@

$(filter $(OUT)/vmx/%,$(ASM_OBJECTS)): $(OUT)/vmx/vmx_values.inc
$(filter $(OUT)/boot/%,$(ASM_OBJECTS)): $(OUT)/boot/boot_values.inc

$(OUT)/%.asm.o: %.asm Makefile
	@mkdir -p $(@D)
	$(call say,NASM,$<)
	$(Q)$(NASM) -f elf64 -Werror $(if $(CHECKED),-DCHECKED) $(if $(COUNT_VMX),-DCOUNT_VMX) -I ./ -I $(OUT)/ \
		-MD $(@:.o=.d) -MP $< -o $@

help: ## list the targets
	@sed -n 's/^\([a-z0-9_.-]*\):[^#]*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 26

setup: ## install what Debian packages the tests and runs need
	tools/setup

# These run on a machine that has only git, make and gcc: what builds comes after setup, also under -j.
run: setup ## boot the whole stack: Nestor, Linux/KVM as L1, Linux as L2; CPUS=2 or 4 processors; TRACE=FILE
	$(MAKE) nestor linux-assets $(if $(TRACE),nestorctl)
	tools/run-stack $(if $(CPUS),--cpus $(CPUS)) $(if $(TRACE),--trace $(TRACE))

demo: setup ## the story of the merged MSR bitmap, in seconds
	$(MAKE) all
	tools/nestor-run --nestor "stats=0xf8" --l1 build/guests/demo.elf

mini: setup ## run guests/mini, a hypervisor of 150 lines to copy; MISTAKE=NAME or all: with it (docs/LABS.md)
	$(MAKE) all
	tools/nestor-run --memory 256 --nestor lint=1 --l1 build/guests/mini.elf $(if $(MISTAKE),--l1-args "$(MISTAKE)")

bitmap-report: setup ## draw the merged MSR bitmap of L2 as build/bitmap-report.html; LINUX=1: of Linux as L2
	$(MAKE) all $(if $(LINUX),linux-assets)
	tools/bitmap-report $(if $(LINUX),--linux) --output build/bitmap-report.html

bench-bitmap: setup ## the cost of L2's MSR bitmap under each policy (docs/BITMAP.md); LINUX=1: and of booting Linux
	$(MAKE) all $(if $(LINUX),linux-assets)
	tools/bench-bitmap $(if $(LINUX),--linux)

bench: setup ## the same and on KVM as L0, and Linux as a whole, in 10 minutes; DOCS=1: for docs; MACHINE=qemu: cycles
ifeq ($(or $(MACHINE),bochs),bochs)
	$(MAKE) all linux-assets
	$(MAKE) nestor COUNT_VMX=1
	tools/nestor-bench --full $(if $(DOCS),--docs)
else
	$(MAKE) all
	tools/nestor-bench --machine $(MACHINE)
endif

bench-quick: setup ## what nested VMX costs L1 in ticks, bare and on Nestor, in a minute
	$(MAKE) all
	tools/nestor-bench

bench-record: setup ## record what bench-quick measures on Nestor, for tests/vm/bench.t
	$(MAKE) all
	tools/nestor-bench --record

test: setup ## everything: check, guest scenarios, demo, Linux/KVM
	$(MAKE) all linux-assets shell-assets check-headers check-layers check-text check-format
	$(MAKE) nestor CHECKED=1
	$(MAKE) nestor COUNT_VMX=1
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),1) prove $(PROVE_FLAGS) tests/host/*.t tests/fuzz/smoke.t \
		$(filter-out tests/vm/efi.t, $(sort $(wildcard tests/vm/*.t)))

test-cpus: setup ## our guests on nine CPU models and two emulators, in hours; DOCS=1: the table in docs/TESTING.md
	$(MAKE) all
	$(MAKE) nestor CHECKED=1
	tests/vm/cpus.t --all $(if $(DOCS),--docs)

test-uefi: setup ## boot by UEFI on Bochs 3.1: nestor.efi, and GRUB with Nestor on one and two processors
	$(MAKE) all linux-assets
	prove $(PROVE_FLAGS) tests/vm/efi.t
	prove $(PROVE_FLAGS) tests/vm/uefi.t :: --all
	prove $(PROVE_FLAGS) tests/vm/bench-iso.t :: uefi without

diff: setup ## random VMX operations, bare and on Nestor: SEED=1 OPS=200000 CPU=corei7_skylake_x
	$(MAKE) all
	tools/nestor-diff --seed $(or $(SEED),1) --ops $(or $(OPS),200000) --cpu $(or $(CPU),corei7_skylake_x)

diff-models: setup ## the same on the CPU models with other features, 20,000 operations each
	$(MAKE) all
	for cpu in corei7_haswell_4770 corei3_cnl corei7_sandy_bridge_2600k; do \
		tools/nestor-diff --seed $(or $(SEED),1) --ops $(or $(OPS),20000) --cpu $$cpu || exit 1; \
	done

check: check-headers check-layers check-text check-docs check-commits check-format
check: host-tests ## unit tests and checks that need no emulator

clean: ## remove what was built, and what was fetched
	rm -rf build compile_commands.json

-include mk/checks.mk mk/host.mk mk/guests.mk mk/efi.mk mk/nestorctl.mk mk/install.mk mk/linux.mk mk/full.mk
-include $(OBJECTS:.o=.d) $(VALUES:%.c=$(OUT)/%.d)
