# Checks of the sources, and the compile commands for editors.
CHECK_DIRS := $(LAYERS) efi guests tests/host tests/fuzz tools/nestorctl
CLANG_FORMAT_VERSION := 14
CHECKED_SOURCES = $(sort $(shell find $(CHECK_DIRS) -name '*.[ch]'))

.PHONY: model tidy check-headers check-layers check-text check-docs check-commits check-format format
.PHONY: compile_commands.json

check-headers: ## each header compiles alone, and so does each fuzz target
	@for header in $(sort $(wildcard $(LAYERS:%=%/*.h))); do \
		$(CC) $(CPPFLAGS) $(CFLAGS) -fsyntax-only -include $$header -x c /dev/null || exit 1; \
	done
	@$(CC) -std=c11 $(WARNINGS) -Wno-missing-prototypes -I. -fsyntax-only tests/fuzz/*.c

check-layers: ## the folders' walls: who includes whom, what is pure, who calls whom (tools/check-layers)
	@tools/check-layers

model: ## check the model of write tracing with spin (tests/model/)
	@prove --verbose $(PROVE_FLAGS) tests/vm/model.t

check-text: ## no line over 120 columns, source over 500 lines or function over 40 (tools/check-text)
	@tools/check-text

check-docs: ## what docs and comments say of the tree, and that the exercises have their answers
	@prove $(PROVE_FLAGS) tests/host/docs.t tests/host/exercises.t

check-commits: ## subjects of commits, and which files no host test links
	@prove $(PROVE_FLAGS) tests/host/commits.t tests/host/linked.t

check-format: ## sources are as .clang-format says
	@command -v $(CLANG_FORMAT) >/dev/null || { echo "$(CLANG_FORMAT) is missing: run tools/setup" >&2; exit 1; }
	@if $(CLANG_FORMAT) --version | grep -q 'version $(CLANG_FORMAT_VERSION)\.'; then \
		$(CLANG_FORMAT) --dry-run -Werror $(CHECKED_SOURCES); \
	else \
		echo "check-format: skipped: $(CLANG_FORMAT) is not version $(CLANG_FORMAT_VERSION)"; \
	fi

format: ## rewrite the sources as .clang-format says
	$(CLANG_FORMAT) -i $(CHECKED_SOURCES)

# The list of what it looks for is .clang-tidy.
tidy: compile_commands.json ## clang-tidy over Nestor's sources, some minutes; FILES="vmx/cr.c ..." only these
	tools/setup analysis
	@printf '%s\n' $(or $(FILES),$(C_SOURCES)) | xargs -P $$(nproc) -n 4 clang-tidy --quiet -p . 2>/dev/null

compile_commands.json: ## what an editor's language server wants
	@{ separator='['; \
	for source in $(C_SOURCES); do \
		printf '%s\n{"directory": "%s", "file": "%s", "command": "%s -c %s"}' \
			"$$separator" '$(CURDIR)' $$source '$(CC) $(CPPFLAGS) $(CFLAGS)' $$source; \
		separator=','; \
	done; echo; echo ']'; } > $@
