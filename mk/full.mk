# What takes longer than `make test` may: Nestor in Nestor, and other hypervisors' L1s in full.
.PHONY: run-nested test-full full-assets soak race

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
	$(MAKE) all nestorctl full-assets
	$(MAKE) nestor CHECKED=1
	prove --timer --verbose $(PROVE_FLAGS) $(sort $(wildcard tests/full/*.t))
	prove --timer --verbose $(PROVE_FLAGS) tests/vm/small.t :: shadow-paging linux

soak: setup ## two processors under random load: MINUTES=60 SEED=1
	$(MAKE) all
	$(MAKE) nestor CHECKED=1
	tests/vm/soak.t $(or $(MINUTES),60) $(or $(SEED),1)

race: setup ## two processors race for a bitmap: ROUNDS=100000, a multiple of 4
	$(MAKE) all
	$(MAKE) nestor CHECKED=1
	tests/vm/smp.t $(or $(ROUNDS),100000)
