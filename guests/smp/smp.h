/* The tests of this image, a file each, with two processors. check_run() runs them, after second_prepare().
 * main.c calls them. */
#ifndef GUESTS_SMP_SMP_H
#define GUESTS_SMP_SMP_H

#include "kernel/base.h"

/* Words of the command line. */
extern uint64_t smp_rounds, smp_l2_rounds, smp_seed, smp_ticks, smp_flushes, smp_no_bitmap, smp_posts;

void test_race(void);          /* race.c */
void test_race_of_l2(void);    /* race_of_l2.c */
void test_race_of_lists(void); /* race_of_lists.c */
void test_migration(void);     /* migrate.c */
void test_travel(void);        /* migrate.c */
void test_shared_vmcs(void);
void test_l2s_tables(void); /* flushes.c */
void test_moved(void);
void test_vpids(void);
void test_init_in_l2(void); /* init.c */
void test_init_in_root(void);
void test_init_before_l2(void);
void test_wait_for_sipi(void); /* wait.c */
void test_wait_drops_init(void);
void test_soak(void);  /* soak.c */
void test_posts(void); /* posts.c */

#endif
