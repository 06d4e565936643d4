# nestorctl: the program that L1 looks at Nestor with. Static: the same file runs in any Linux, and in an initramfs.
NESTORCTL := build/nestorctl/nestorctl
NESTORCTL_CC ?= gcc
NESTORCTL_CFLAGS := -std=gnu11 -O2 -g -static -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wundef -ffile-prefix-map='$(CURDIR)=.' -I.
NESTORCTL_OBJECTS := $(patsubst %.c,build/%.o,$(wildcard tools/nestorctl/*.c)) build/nestorctl/vmx/caps_missing.o

.PHONY: nestorctl
nestorctl: $(NESTORCTL) ## build nestorctl, with which L1's Linux looks at the Nestor below it

$(NESTORCTL): $(NESTORCTL_OBJECTS)
	@mkdir -p $(@D)
	$(NESTORCTL_CC) $(NESTORCTL_CFLAGS) -o $@ $^

# What Nestor needs of a CPU, from Nestor's own list.
build/nestorctl/vmx/%.o: vmx/%.c mk/nestorctl.mk
	@mkdir -p $(@D)
	$(NESTORCTL_CC) $(NESTORCTL_CFLAGS) -MMD -MP -c $< -o $@

build/nestorctl/msr_names.inc: kernel/msr.h
	@mkdir -p $(@D)
	$(Q)sed -n 's/^#define \(IA32_[A-Z0-9_]*\) \(0x[0-9a-f]*\).*/{\2, "\1"},/p' $< > $@

build/tools/nestorctl/bitmap.o: build/nestorctl/msr_names.inc

build/tools/nestorctl/page.o: tools/bitmap-report.html tools/timeline.html

build/tools/nestorctl/%.o: tools/nestorctl/%.c mk/nestorctl.mk
	@mkdir -p $(@D)
	$(NESTORCTL_CC) $(NESTORCTL_CFLAGS) -MMD -MP -c $< -o $@

-include $(NESTORCTL_OBJECTS:.o=.d)
