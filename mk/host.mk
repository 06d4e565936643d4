# Host unit tests: each tests/host/test_X.c is one cmocka program, build/host/test_X.
# Its first line names the project sources that it links:  /* sources: mm/memmap.c kernel/format.c */
# A second line may add compiler flags for all of them:    /* cflags: -Dmemcpy=nestor_memcpy */
HOST_CC ?= gcc
HOST_CFLAGS := -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wundef -I.
HOST_TESTS := $(sort $(patsubst tests/host/%.c,%,$(wildcard tests/host/test_*.c)))
HOST_PROGRAMS := $(HOST_TESTS:%=build/host/%)

.PHONY: host-programs host-tests
host-programs: $(HOST_PROGRAMS)

host-tests:
	@prove $(PROVE_FLAGS) tests/host/unit.t

# What the first two lines of test $1 say after the word $2.
host_line = $(shell sed -n '1,2s,^/\* *$2: *\(.*[^ ]\) *\*/$$,\1,p' tests/host/$1.c)

# $1: the test; $2: its sources; $3: its extra flags. Objects are the test's own, as flags differ between tests.
define host_program
build/host/$1: $(patsubst %.c,build/host/$1.o/%.o,tests/host/$1.c tests/host/stubs.c $2)
	$$(HOST_CC) $$(HOST_CFLAGS) -o $$@ $$^ -lcmocka
build/host/$1.o/%.o: %.c
	@mkdir -p $$(@D)
	$$(HOST_CC) $$(HOST_CFLAGS) $3 -MMD -MP -c $$< -o $$@
-include $(patsubst %.c,build/host/$1.o/%.d,tests/host/$1.c tests/host/stubs.c $2)
endef
$(foreach test,$(HOST_TESTS),$(eval $(call host_program,$(test),$(call host_line,$(test),sources),$(call host_line,$(test),cflags))))
