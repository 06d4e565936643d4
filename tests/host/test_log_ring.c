/* sources: kernel/log_ring.c */
/* The log's ring, found again in RAM after a reset that has kept all of it, or some. */
#include "tests/host/host.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/log_ring.h"

#define PAGES 64

static uint8_t *memory;
static struct log_text taken;

static int setup(void **state)
{
    (void)state;
    memory = aligned_alloc(PAGE_SIZE, PAGES * PAGE_SIZE);
    memset(memory, 0xff, PAGES * PAGE_SIZE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

static struct log_ring *ring_at(unsigned page)
{
    struct log_ring *ring = (struct log_ring *)(memory + page * PAGE_SIZE);
    memset(ring, 0, sizeof *ring);
    return ring;
}

static struct log_ring *find(void)
{
    return log_ring_find(memory, PAGES * PAGE_SIZE);
}

static void test_found_where_it_lies(void **state)
{
    (void)state;
    assert_null(find());
    for (unsigned page = 0; page + sizeof(struct log_ring) / PAGE_SIZE <= PAGES; page++) {
        struct log_ring *ring = ring_at(page);
        log_ring_write(ring, "before the seal\n", 16);
        assert_null(find());
        log_ring_seal(ring);
        log_ring_write(ring, "after it\n", 9);
        assert_ptr_equal(find(), ring);
        assert_int_equal(log_ring_take(ring, &taken), 0);
        assert_int_equal(taken.written, 25);
        assert_memory_equal(taken.text, "before the seal\nafter it\n", 25);
        assert_null(find()); /* once */
        memset(ring, 0xff, sizeof *ring);
    }
    assert_null(log_ring_find(memory, sizeof(struct log_ring) - 1));
}

/* Any text, many times around: each block sums up. */
static void test_sums_hold_when_it_wraps(void **state)
{
    (void)state;
    struct log_ring *ring = ring_at(3);
    log_ring_seal(ring);
    for (unsigned i = 0; i < 3000; i++) {
        char line[200];
        size_t size = host_random() % sizeof line;
        for (size_t j = 0; j < size; j++)
            line[j] = (char)host_random();
        log_ring_write(ring, line, size);
    }
    assert_true(ring->log.written > 3 * LOG_RING_SIZE);
    assert_ptr_equal(find(), ring);
    struct log_text before = ring->log;
    assert_int_equal(log_ring_take(ring, &taken), 0);
    assert_memory_equal(&taken, &before, sizeof before);
}

/* Whatever bit is spoilt: the block of the text says so, the rest is there; without mark or count it is not found. */
static void test_each_spoilt_bit_is_seen(void **state)
{
    (void)state;
    static const char line[] = "nestor: some line of some length\n";
    for (unsigned round = 0; round < 2000; round++) {
        struct log_ring *ring = ring_at(1);
        while (ring->log.written < LOG_RING_SIZE)
            log_ring_write(ring, line, sizeof line - 1);
        log_ring_seal(ring);
        size_t at = host_random() % (offsetof(struct log_ring, log) + sizeof ring->log);
        ((uint8_t *)ring)[at] ^= (uint8_t)(1u << host_random() % 8);
        size_t text = offsetof(struct log_ring, log.text), sums = offsetof(struct log_ring, sum);
        bool is_text = at >= text, is_sum = at >= sums && at < sums + sizeof ring->sum;
        if (!is_text && !is_sum) {
            assert_null(find());
            continue;
        }
        uint64_t block = is_text ? (at - text) / LOG_BLOCK_SIZE : (at - sums) / 8;
        struct log_text before = ring->log;
        assert_ptr_equal(find(), ring);
        assert_int_equal(log_ring_take(ring, &taken), 1);
        memset(before.text + block * LOG_BLOCK_SIZE, '?', LOG_BLOCK_SIZE - 1);
        before.text[(block + 1) * LOG_BLOCK_SIZE - 1] = '\n';
        assert_memory_equal(&taken, &before, sizeof before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found_where_it_lies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sums_hold_when_it_wraps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_spoilt_bit_is_seen, setup, teardown),
    };
    return cmocka_run_group_tests_name("log_ring", tests, NULL, NULL);
}
