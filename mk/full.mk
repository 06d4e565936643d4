# What takes longer than `make test` may: Nestor in Nestor, and other hypervisors' L1s in full.
.PHONY: run-nested test-full

run-nested: setup ## Nestor in Nestor: the demo three levels deep
	$(MAKE) all
	tools/run-nested

test-full: setup ## slow tests of real L1s (tests/full/), under an hour
	$(MAKE) all linux-assets
	prove --timer --verbose $(PROVE_FLAGS) $(sort $(wildcard tests/full/*.t))
