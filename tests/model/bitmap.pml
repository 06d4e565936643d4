/* The protocol of one traced bitmap page: two processors of L1, each of which stores to the page (as L1, as L2 through
 * EPT02, or by L0 on its behalf), enters and leaves L2, and executes VMCLEAR, with or without an eviction; and L0's
 * policy changes. The merged page is either's, or both name it: then whoever needs it anew takes another. Each
 * transition names the function that it stands for. tests/vm/model.t checks it (`make model`).
 *
 * The page is a number for each processor, which that one counts up: a store. A merge copies them. The property: the
 * merged page on which an L2 runs has every store that was done before the entry began, and L0's policy as it was then;
 * and a merge writes to no page that the other processor names.
 *
 * A processor's TLB may allow what EPT01 or EPT02 no longer does, until it passes an INVEPT: because the generation has
 * moved, because EPT02 owes one, or by a kick, which is only sent to one that has not passed the generation. While a
 * guest runs, all that the tables allow may be cached.
 *
 * L0's policy changes with -DPOLICY only, and -DOTHER_STEPS=1 keeps that small: the two together are forty times the
 * states.
 *
 * -DEARLY_GENERATION, -DREAD_FIRST, -DNO_KICK, -DSKIP_EPT02, -DFORGET_GENERATION, -DARM_FIRST, -DNO_MERGE_AT_ACCESS,
 * -DDEAF, -DLOOK_FIRST, -DWRITE_SHARED, -DNO_CLAIM each leave out one thing or do it in the wrong order: the checker
 * must find the fault. */

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
byte changes;           /* merged_cache.changes */
byte seen[2];           /* slot_bitmaps.seen; 0: never */
bit quiet[2];           /* straight.quiet: the next entry looks at nothing */
bit waits[2];           /* slot_bitmaps.hw is HW_WAITS: L2 runs on a page of ones */

#define NONE 2
typedef entry_t {       /* nested/bitmap/merged.h:merged */
    mtype state = EMPTY;
    bit armed;
    byte snapshot[2];
    byte l0;
    byte l0_gen;        /* 0: claimed, or never merged */
    bit named[2];       /* by a slot of the processor: users */
    bit shared          /* owner is MERGED_SHARED */
};
entry_t entry[2];       /* as each processor names one at most, one of the two is free for who needs another */
byte name[2] = NONE;    /* slot_bitmaps.merged */
bit cache_lock;

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
        changes++;
        d_step { disturb(0); disturb(1) }
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
    :: entry[OTHER(name[i])].armed      /* it is protected already, but the kick for that may be under way */
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
    entry[name[i]].armed = 1;
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
    assert(!entry[name[i]].named[OTHER(i)]); /* it may run on it */
    entry[name[i]].snapshot[0] = page[0];
    entry[name[i]].snapshot[1] = page[1];
    entry[name[i]].l0 = policy
}

/* nested/bitmap/merged.h:merged_is_fresh, in its order. */
inline look(e) {
    fresh = entry[e].l0_gen == generation;
    fresh = fresh && entry[e].state == FRESH
}

/* nested/bitmap/merged.h:merged_claim */
inline claim(i) {
#ifndef NO_CLAIM
    entry[name[i]].l0_gen = 0
#else
    skip
#endif
}

/* nested/bitmap/merged_cache.c:merged_cache_put */
inline put(i) {
    d_step {
        if
        :: name[i] != NONE ->
            entry[name[i]].named[i] = 0;
            if :: !entry[name[i]].named[OTHER(i)] -> entry[name[i]].shared = 0 :: else fi;
            name[i] = NONE
        :: else
        fi
    }
}

/* nested/bitmap/merged_cache.c:merged_cache_get: a fresh one, or one that nobody else names. */
inline get(i) {
    e = 0;
    look(e);
    if :: !fresh -> e = 1; look(e) :: else fi;
    if
    :: fresh
    :: else -> e = (!entry[0].named[OTHER(i)] -> 0 : 1)
    fi;
    d_step {
        name[i] = e;
        entry[e].named[i] = 1;
        if
        :: entry[e].named[OTHER(i)] -> entry[e].shared = 1
        :: else
        fi
    };
    if
    :: !entry[e].shared -> look(e); if :: !fresh -> claim(i) :: else fi
    :: else
    fi;
    e = 0
}

/* nested/bitmap/slot_bitmaps.c:follow_pointer with nested/bitmap/merged_cache.c:merged_cache_keep */
inline follow(i) {
    generation = policy_gen;
    fresh = 0;
    if :: name[i] != NONE -> look(name[i]) :: else fi;
    if
    :: fresh
    :: else ->
        atomic { cache_lock == 0 -> cache_lock = 1 };
        if
#ifndef WRITE_SHARED
        :: name[i] != NONE && !entry[name[i]].shared ->
#else
        :: name[i] != NONE ->
#endif
            look(name[i]);
            if :: !fresh -> claim(i) :: else fi
        :: else -> put(i); get(i)
        fi;
        cache_lock = 0
    fi
}

/* nested/bitmap/merged.c:merged_refresh and nested/bitmap/merged.c:merged_merge: of what was claimed. */
inline refresh(i) {
    if
#ifndef NO_CLAIM
    :: entry[name[i]].l0_gen != 0
#else
    :: entry[name[i]].l0_gen == policy_gen && entry[name[i]].state == FRESH
#endif
    :: else ->
#ifdef READ_FIRST
        read(i);
#endif
#ifdef ARM_FIRST
        if :: !entry[name[i]].armed -> protect(i) :: else fi;
        entry[name[i]].state = FRESH;   /* and so a hit that came between is forgotten */
#else
        if :: !entry[name[i]].armed -> entry[name[i]].state = FRESH; protect(i) :: else fi;
#endif
#ifndef READ_FIRST
        read(i);
#endif
        entry[name[i]].l0_gen = generation
    fi
}

/* nested/bitmap/slot_bitmaps.c:slot_bitmaps_refresh and nested/bitmap/slot_bitmaps.c:slot_bitmaps_refresh_anew. Any
 * merge may be put off, whatever nested/bitmap/merged.c:merged_waits goes by. */
inline prepare(i) {
    now = changes + policy_gen;
    if
    :: seen[i] == now
    :: else ->
        follow(i);
        if
        :: entry[name[i]].l0_gen == 0 -> d_step { waits[i] = 1; seen[i] = now }
        :: waits[i] = 0;
            refresh(i);
            if :: entry[name[i]].state == FRESH -> seen[i] = now :: else -> seen[i] = 0 fi
        fi
    fi
}

inline go_on(i) {
    atomic {
        assert(entry[name[i]].snapshot[0] >= done0 && entry[name[i]].snapshot[1] >= done1); /* no store is lost */
        assert(entry[name[i]].l0 >= l0) /* nor a bit of L0's */
    };
    resume(i)
}

/* nested/quiet.c:straight_ready: the byte first, and then the look. */
inline ready(i) {
#ifndef LOOK_FIRST
    quiet[i] = 1;
    if
    :: seen[i] == changes + policy_gen && !cpu[i].owes
    :: else -> quiet[i] = 0
    fi
#else
    if
    :: seen[i] == changes + policy_gen && !cpu[i].owes -> quiet[i] = 1
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
            follow(i);
            refresh(i);
#endif
            go_on(i)
        fi
    fi
}

/* VMCLEAR: nested/bitmap/slot_bitmaps.c:slot_bitmaps_put; and perhaps an entry that nobody names makes room,
 * nested/bitmap/merged_cache.c:merged_free with mm/ept_watch.c:ept_watch_remove. */
inline evict(i, k) {
    lock();
    if
    :: entry[k].armed ->
        entry[k].armed = 0;
        if :: !entry[OTHER(k)].armed -> writable[EPT01] = 1 :: else fi
    :: else
    fi;
    unlock();
    d_step { entry[k].state = EMPTY; entry[k].l0_gen = 0 }
}

inline vmclear(i) {
    d_step { cpu[i].out = 1; quiet[i] = 0 };
    atomic { cache_lock == 0 -> cache_lock = 1 };
    put(i);
    if
    :: skip
    :: !entry[0].named[OTHER(i)] -> evict(i, 0)
    :: !entry[1].named[OTHER(i)] -> evict(i, 1)
    fi;
    cache_lock = 0;
    d_step { seen[i] = 0; waits[i] = 0 };
    resume(i)
}

byte policy_done = 1;

proctype processor(byte i) {
    byte n, generation, now, done0, done1, l0, e;
    bit fresh;
    do
    :: n == (i == 0 -> STEPS : OTHER_STEPS) -> break
    :: n < (i == 0 -> STEPS : OTHER_STEPS) -> n++;
        if
        :: store(i, EPT01)
        :: store(i, EPT02)
        :: store_by_l0(i)
        :: enter(i)
        :: vmclear(i)
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
