# Host unit tests: each tests/host/test_X.c is one cmocka program, build/host/test_X.
# Its first comment names the project sources that it links:  /* sources: mm/memmap.c kernel/format.c */
# A second one may add compiler flags for all of them:    /* cflags: -Dmemcpy=nestor_memcpy */
# and a third one the linker's:                            /* ldflags: -no-pie */
HOST_CC ?= gcc
HOST_CFLAGS := -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wundef -I.
HOST_TESTS := $(sort $(patsubst tests/host/%.c,%,$(wildcard tests/host/test_*.c)))
HOST_PROGRAMS := $(HOST_TESTS:%=build/host/%)

.PHONY: host-programs host-tests
host-programs: $(HOST_PROGRAMS)

host-tests: ## build and run the host unit tests (one: tests/host/unit.t NAME)
	@prove $(PROVE_FLAGS) tests/host/unit.t

# What the first comments of file $1 say after the word $2; of test $1. The text may take several lines.
first_comment = $(shell awk -v RS='[*]/' 'NR <= 3 && $$2 == "$2:" { $$1 = $$2 = ""; print }' $1)
host_line = $(call first_comment,tests/host/$1.c,$2)

build/host/obj/%.o: %.c
	@mkdir -p $(@D)
	$(HOST_CC) $(HOST_CFLAGS) -MMD -MP -c $< -o $@

# $1: the test; $2: its sources.
define host_program
build/host/$1: $(patsubst %.c,build/host/obj/%.o,tests/host/$1.c tests/host/stubs.c $2)
	$$(HOST_CC) $$(HOST_CFLAGS) -o $$@ $$^ -lcmocka
endef
# The same with extra flags $3 and $4, and so with objects of its own.
define host_program_flags
build/host/$1: $(patsubst %.c,build/host/$1.o/%.o,tests/host/$1.c tests/host/stubs.c $2)
	$$(HOST_CC) $$(HOST_CFLAGS) $4 -o $$@ $$^ -lcmocka
build/host/$1.o/%.o: %.c
	@mkdir -p $$(@D)
	$$(HOST_CC) $$(HOST_CFLAGS) $3 -MMD -MP -c $$< -o $$@
endef
host_rules = $(call host_program$(if $3,_flags),$1,$2,$3,$4)
$(foreach test,$(HOST_TESTS),$(eval $(call host_rules,$(test),$(call host_line,$(test),sources),$\
	$(call host_line,$(test),cflags),$(call host_line,$(test),ldflags))))

# The test of the CPU that never forgets as a program by itself, without sanitizers, for long runs. FAULT: a number of
# enum injected_fault.
build/never-forgets: tests/host/test_never_forgets.c
	@mkdir -p $(@D)
	$(HOST_CC) -std=c11 -g -O2 -I. $(call host_line,test_never_forgets,cflags) \
		$(call host_line,test_never_forgets,ldflags) -o $@ tests/host/test_never_forgets.c tests/host/stubs.c \
		$(call host_line,test_never_forgets,sources) -lcmocka

.PHONY: never-forgets
never-forgets: ## random operations on processors that never forget a translation: OPS=10000000 SEED=1 FAULT=0
	@rm -f build/never-forgets
	@$(MAKE) -s -f mk/host.mk build/never-forgets
	build/never-forgets $(or $(OPS),10000000) $(or $(SEED),1) $(or $(FAULT),0)

-include $(shell find build/host -name '*.d' 2>/dev/null)
include mk/fuzz.mk
