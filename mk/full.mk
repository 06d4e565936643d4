# What takes longer than `make test` may: Nestor in Nestor, and other hypervisors' L1s in full.
.PHONY: run-nested test-full full-assets soak

FULL_STAMP := build/full/stamp

full-assets: $(FULL_STAMP)

$(FULL_STAMP): $(L1_KERNEL) $(L1_INITRD) tools/mkfull $(wildcard tests/full/*.c tests/full/*.sh tools/initramfs/*) \
		tools/nestorlib/linux.py tools/nestorlib/initramfs.py
	tools/mkfull
	@touch $@

run-nested: setup ## Nestor in Nestor: the demo three levels deep
	$(MAKE) all
	tools/run-nested

test-full: setup ## slow tests of real L1s (tests/full/), under an hour
	$(MAKE) all full-assets
	prove --timer --verbose $(PROVE_FLAGS) $(sort $(wildcard tests/full/*.t))

soak: setup ## two processors race for long: ROUNDS=100000, a multiple of 4
	$(MAKE) all
	tests/vm/smp.t $(or $(ROUNDS),100000)
