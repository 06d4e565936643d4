# Host unit tests: each tests/host/test_X.c is one cmocka program, build/host/test_X.
# Its first comment names the project sources that it links:  /* sources: mm/memmap.c kernel/format.c */
# A second one may add compiler flags for all of them:    /* cflags: -Dmemcpy=nestor_memcpy */
# and a third one the linker's:                            /* ldflags: -no-pie */
HOST_CC ?= gcc
HOST_OUT ?= build/host
HOST_CFLAGS := -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wundef -I.
HOST_TESTS := $(sort $(patsubst tests/host/%.c,%,$(wildcard tests/host/test_*.c)))
HOST_PROGRAMS := $(HOST_TESTS:%=$(HOST_OUT)/%)

.PHONY: host-programs host-tests
host-programs: $(HOST_PROGRAMS)

host-tests: ## build and run the host unit tests (one: tests/host/unit.t NAME)
	@prove $(PROVE_FLAGS) tests/host/unit.t

# What the first comments of file $1 say after the word $2; of test $1. The text may take several lines.
first_comment = $(shell awk -v RS='[*]/' 'NR <= 3 && $$2 == "$2:" { $$1 = $$2 = ""; print }' $1)
host_line = $(call first_comment,tests/host/$1.c,$2)

$(HOST_OUT)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(HOST_CC) $(HOST_CFLAGS) -MMD -MP -c $< -o $@

# $1: the test; $2: its sources.
define host_program
$(HOST_OUT)/$1: $(patsubst %.c,$(HOST_OUT)/obj/%.o,tests/host/$1.c tests/host/stubs.c $2)
	$$(HOST_CC) $$(HOST_CFLAGS) -o $$@ $$^ -lcmocka
endef
# The same with extra flags $3 and $4, and so with objects of its own.
define host_program_flags
$(HOST_OUT)/$1: $(patsubst %.c,$(HOST_OUT)/$1.o/%.o,tests/host/$1.c tests/host/stubs.c $2)
	$$(HOST_CC) $$(HOST_CFLAGS) $4 -o $$@ $$^ -lcmocka
$(HOST_OUT)/$1.o/%.o: %.c
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

# In a folder of its own, without sanitizers. It counts what the tests link; linked.t names what they do not.
COVERAGE_CFLAGS := -std=c11 -g -O0 --coverage -fprofile-update=atomic -I.
.PHONY: coverage
coverage: ## which lines of the sources the host tests execute, as build/coverage/index.html
	tools/setup analysis
	@rm -rf build/coverage
	@$(MAKE) -s -f mk/host.mk HOST_OUT=build/coverage HOST_CFLAGS='$(COVERAGE_CFLAGS)' host-programs
	@for program in $(HOST_TESTS:%=build/coverage/%); do $$program >/dev/null 2>&1 || echo "$$program failed"; done
	@gcovr --root . $(LAYERS:%=--filter %/) --exclude-unreachable-branches --print-summary \
		--html-details build/coverage/index.html build/coverage

-include $(shell find $(HOST_OUT) -name '*.d' 2>/dev/null)
include mk/fuzz.mk
