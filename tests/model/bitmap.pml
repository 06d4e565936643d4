/* The protocol of one traced bitmap page: two processors of L1, each of which stores to the page (as L1, as L2 through
 * EPT02, or by L0 on its behalf), enters and leaves L2, and drops its cache entry; and L0's policy changes. Each
 * transition names the function that it stands for. tests/vm/model.t checks it (`make model`).
 *
 * The page is a number for each processor, which that one counts up: a store. A merge copies them. The property: the
 * merged page on which an L2 runs has every store that was done before the entry began, and L0's policy as it was then.
 *
 * A processor's TLB may allow what EPT01 or EPT02 no longer does, until it passes an INVEPT: because the generation has
 * moved, because EPT02 owes one, or by a kick, which is only sent to one that has not passed the generation. While a
 * guest runs, all that the tables allow may be cached.
 *
 * L0's policy changes with -DPOLICY only, and -DOTHER_STEPS=1 keeps that small: the two together are forty times the
 * states.
 *
 * -DEARLY_GENERATION, -DREAD_FIRST, -DNO_KICK, -DSKIP_EPT02, -DFORGET_GENERATION, -DARM_FIRST, -DNO_MERGE_AT_ACCESS,
 * -DDEAF, -DLOOK_FIRST each leave out one thing or do it in the wrong order: the checker must find the fault. */

#ifndef STEPS
#define STEPS 2 /* of each processor */
#endif
#ifndef OTHER_STEPS
#define OTHER_STEPS STEPS /* of the second one */
#endif
#define OTHER(i) (1 - (i))
#define EPT01 0
#define EPT02 1

mtype = { EMPTY, STALE, FRESH };

byte page[2];           /* L1's page */
byte done[2];           /* the stores that are complete */
byte policy = 1;        /* vm->msr_bitmap */
byte policy_gen = 1;    /* vm->msr_policy_generation */
byte changes[2];        /* merged_cache.changes of each processor */
byte seen[2];           /* slot_bitmaps.seen; 0: never */
bit quiet[2];           /* straight.quiet: the next entry looks at nothing */
bit waits[2];           /* slot_bitmaps.hw is HW_WAITS: L2 runs on a page of ones */

typedef entry_t {       /* nested/bitmap/merged.h:merged, one for each processor */
    mtype state = EMPTY;
    bit armed;
    byte snapshot[2];
    byte l0;
    byte l0_gen
};
entry_t entry[2];

bit writable[2] = 1;    /* W of the leaf in EPT01 and in EPT02 */
typedef cpu_t {
    bit tlb[2] = 1;     /* it may store by what it has cached */
    bit out;            /* in Nestor: caches nothing */
    bit passed = 1;     /* vcpu.ept01_generation is ept.generation */
    bit owes            /* ept02_root.owes */
};
cpu_t cpu[2];
bit watch_lock;

inline lock() { atomic { watch_lock == 0 -> watch_lock = 1 } }
inline unlock() { watch_lock = 0 }

/* mm/ept.c:ept_next_generation */
inline next_generation() { d_step { cpu[0].passed = 0; cpu[1].passed = 0 } }

/* vmx/kick.c:kick_answer */
inline answer(i) {
    if
    :: !cpu[i].passed -> cpu[i].passed = 1; cpu[i].tlb[EPT01] = 0; cpu[i].tlb[EPT02] = 0
    :: else
    fi
}

inline cache(i) {
    cpu[i].tlb[EPT01] = cpu[i].tlb[EPT01] | writable[EPT01];
    cpu[i].tlb[EPT02] = cpu[i].tlb[EPT02] | writable[EPT02]
}

/* nested/prepare.c:prepare_sync_ept02 pays what EPT02 owes, vmx/run.c:vcpu_prepare_entry looks at the generation, then
 * the guest runs: a kick between is answered inside Nestor. */
inline pay(i) {
    d_step { if :: cpu[i].owes -> cpu[i].owes = 0; cpu[i].tlb[EPT02] = 0 :: else fi }
}

inline resume(i) {
    d_step {
        if :: cpu[i].owes -> cpu[i].owes = 0; cpu[i].tlb[EPT02] = 0 :: else fi;
        answer(i);
        cache(i);
        cpu[i].out = 0
    }
}

/* vmx/straight.c:straight_disturb */
inline disturb(k) {
#ifndef DEAF
    quiet[k] = 0
#else
    skip
#endif
}

/* nested/bitmap/merged.c:merged_stale */
inline stale(k) {
    if
    :: entry[k].armed ->
        entry[k].armed = 0;
        entry[k].state = STALE;
        changes[k]++;
        disturb(k)
    :: else
    fi
}

/* mm/ept_watch.c:ept_watch_hit, which gives W back by mm/ept.c:ept_write_allow */
inline hit() {
    lock();
    stale(0);
    stale(1);
    writable[EPT01] = 1;
    unlock()
}

/* A store of the guest through a leaf. A fault leaves everything to the instruction's repetition. */
inline store(i, leaf) {
    do
    :: atomic { cpu[i].tlb[leaf] || writable[leaf] ->
            cpu[i].tlb[leaf] = 1;       /* a permission miss walks the tables again */
            page[i]++; done[i]++ };
        break
    :: atomic { !cpu[i].tlb[leaf] && !writable[leaf] -> cpu[i].out = 1 };
        hit();                          /* vmx/exit_ept.c:exit_ept_violation, nested/l2_ept.c:l2_ept_exit */
        atomic { if :: writable[EPT01] -> writable[leaf] = 1 :: else fi }; /* nested/ept02/ept02_fill.c:ept02_fill */
        resume(i)
    od
}

/* mm/gmem.c:gmem_write: the store first, the hit after. */
inline store_by_l0(i) {
    cpu[i].out = 1;
    page[i]++;
    hit();
    done[i]++;
    resume(i)
}

/* mm/ept_watch.c:ept_watch_add by mm/ept_watch.c:ept_revoke: mm/ept.c:ept_write_protect,
 * nested/ept02/ept02.c:ept02_protect, mm/ept.c:ept_next_generation, then vmx/kick.c:synchronize. A kick meets the
 * guest, which is entered again, or is answered inside Nestor. */
inline protect(i) {
    lock();
    if
    :: entry[OTHER(i)].armed            /* it is protected already, but the kick for that may be under way */
    :: else ->
#ifdef EARLY_GENERATION
        next_generation();
#endif
        writable[EPT01] = 0;
#ifndef SKIP_EPT02
        d_step { writable[EPT02] = 0; cpu[0].owes = 1; cpu[1].owes = 1 };
        d_step { disturb(0); disturb(1) };
#endif
#ifndef EARLY_GENERATION
        next_generation();
#endif
    fi;
    entry[i].armed = 1;
    unlock();
#ifndef NO_KICK
    d_step {                            /* vmx/kick.c:has_passed */
        if
        :: !cpu[OTHER(i)].passed ->
            answer(OTHER(i));
            if :: !cpu[OTHER(i)].out -> cache(OTHER(i)) :: else fi
        :: else
        fi
    };
#endif
    skip
}

/* mm/gmem.c:gmem_read and vmx/msr_bitmap.c:msr_bitmap_merge */
inline read(i) {
    entry[i].snapshot[0] = page[0];
    entry[i].snapshot[1] = page[1];
    entry[i].l0 = policy
}

/* nested/bitmap/merged.c:merged_refresh and nested/bitmap/merged.c:merged_merge */
inline refresh(i) {
    generation = policy_gen;
    if
    :: entry[i].state == FRESH && entry[i].l0_gen == generation
    :: else ->
#ifdef READ_FIRST
        read(i);
#endif
#ifdef ARM_FIRST
        if :: !entry[i].armed -> protect(i) :: else fi;
        entry[i].state = FRESH;         /* and so a hit that came between is forgotten */
#else
        if :: !entry[i].armed -> entry[i].state = FRESH; protect(i) :: else fi;
#endif
#ifndef READ_FIRST
        read(i);
#endif
        entry[i].l0_gen = generation
    fi
}

/* nested/bitmap/slot_bitmaps.c:slot_bitmaps_refresh and nested/bitmap/slot_bitmaps.c:slot_bitmaps_refresh_anew. Any
 * merge may be put off, whatever nested/bitmap/merged.c:merged_waits goes by. */
inline prepare(i) {
    now = changes[i] + policy_gen;
    if
    :: seen[i] == now
    :: else ->
        if
        :: entry[i].state != FRESH -> d_step { waits[i] = 1; seen[i] = now }
        :: waits[i] = 0;
            refresh(i);
            if :: entry[i].state == FRESH -> seen[i] = now :: else -> seen[i] = 0 fi
        fi
    fi
}

inline go_on(i) {
    atomic {
        assert(entry[i].snapshot[0] >= done0 && entry[i].snapshot[1] >= done1); /* no store is lost */
        assert(entry[i].l0 >= l0)                                               /* nor a bit of L0's */
    };
    resume(i)
}

/* nested/quiet.c:straight_ready: the byte first, and then the look. */
inline ready(i) {
#ifndef LOOK_FIRST
    quiet[i] = 1;
    if
    :: seen[i] == changes[i] + policy_gen && !cpu[i].owes
    :: else -> quiet[i] = 0
    fi
#else
    if
    :: seen[i] == changes[i] + policy_gen && !cpu[i].owes -> quiet[i] = 1
    :: else
    fi
#endif
}

/* nested/enter.c:nested_enter: L2 runs on the merged page, or on ones until it accesses an MSR, if it does
 * (nested/bitmap/slot_bitmaps.c:slot_bitmaps_restore). */
inline enter(i) {
    atomic { cpu[i].out = 1; done0 = done[0]; done1 = done[1]; l0 = policy_done };
    if
    :: quiet[i]                         /* vmx/straight.asm:straight_exit_l1 */
    :: else -> quiet[i] = 0; prepare(i); pay(i); ready(i)
    fi;
    if
    :: !waits[i] -> go_on(i)
    :: waits[i] -> resume(i);
        if
        :: skip
        :: d_step { cpu[i].out = 1; waits[i] = 0; seen[i] = 0; quiet[i] = 0 };
#ifndef NO_MERGE_AT_ACCESS
            refresh(i);
#endif
            go_on(i)
        fi
    fi
}

/* nested/bitmap/merged_cache.c:merged_free after VMCLEAR, VMXOFF or an eviction; mm/ept_watch.c:ept_watch_remove */
inline evict(i) {
    d_step { cpu[i].out = 1; quiet[i] = 0 };
    lock();
    if
    :: entry[i].armed ->
        entry[i].armed = 0;
        if :: !entry[OTHER(i)].armed -> writable[EPT01] = 1 :: else fi
    :: else
    fi;
    unlock();
    d_step { entry[i].state = EMPTY; entry[i].l0_gen = 0; seen[i] = 0; waits[i] = 0 };
    resume(i)
}

byte policy_done = 1;

proctype processor(byte i) {
    byte n, generation, now, done0, done1, l0;
    do
    :: n == (i == 0 -> STEPS : OTHER_STEPS) -> break
    :: n < (i == 0 -> STEPS : OTHER_STEPS) -> n++;
        if
        :: store(i, EPT01)
        :: store(i, EPT02)
        :: store_by_l0(i)
        :: enter(i)
        :: evict(i)
        fi
    od
}

/* vmx/msr_guest.c:msr_policy_change: the page first, its generation after. */
proctype policy_changes() {
    policy++;
#ifndef FORGET_GENERATION
    policy_gen++;
#endif
    d_step { disturb(0); disturb(1) };
    policy_done++
}

init {
    atomic {
        run processor(0);
        run processor(1);
#ifdef POLICY
        run policy_changes()
#endif
    }
}
