# Fuzz targets: each tests/fuzz/fuzz_X.c is one libFuzzer program, build/fuzz/fuzz_X, for what parses bytes of a
# guest's. Its first comment names the project sources that it links, as in tests/host/.
FUZZ_CC ?= clang
FUZZ_CFLAGS := -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wundef -I.
FUZZ_TARGETS := $(sort $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c)))

.PHONY: fuzz fuzz-smoke
fuzz: $(FUZZ_TARGETS:%=build/fuzz/%) ## build the fuzz targets (tests/fuzz/, needs clang)

fuzz-smoke: ## run each fuzz target for FUZZ_SECONDS (10)
	@prove $(PROVE_FLAGS) tests/fuzz/smoke.t

build/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@

define fuzz_program
build/fuzz/$1: $(patsubst %.c,build/fuzz/obj/%.o,tests/fuzz/$1.c tests/fuzz/fuzz.c \
		$(call first_comment,tests/fuzz/$1.c,sources))
	$$(FUZZ_CC) $$(FUZZ_CFLAGS) -o $$@ $$^
endef
$(foreach target,$(FUZZ_TARGETS),$(eval $(call fuzz_program,$(target))))

-include $(shell find build/fuzz/obj -name '*.d' 2>/dev/null)
