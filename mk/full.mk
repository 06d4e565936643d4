# What takes longer than `make test` may: Nestor in Nestor, and other hypervisors' L1s in full.
.PHONY: run-nested test-full soak

run-nested: setup ## Nestor in Nestor: the demo three levels deep
	$(MAKE) all
	tools/run-nested

test-full: setup ## slow tests of real L1s (tests/full/), under an hour
	$(MAKE) all linux-assets
	prove --timer --verbose $(PROVE_FLAGS) $(sort $(wildcard tests/full/*.t))

soak: setup ## two processors race for long: ROUNDS=100000, a multiple of 4
	$(MAKE) all
	tests/vm/smp.t $(or $(ROUNDS),100000)
