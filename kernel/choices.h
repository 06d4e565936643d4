/* The values of the options that are a choice, in their order: V(enumerator, "word"). An enum and the text in
 * kernel/options.def are made of each list, so they cannot differ.
 * Pure.
 * The header that declares an option's enum includes it, and kernel/cmdline. */
#ifndef KERNEL_CHOICES_H
#define KERNEL_CHOICES_H

/* The members of an enum: enum log_level { LOG_CHOICES(CHOICE_MEMBER) }; */
#define CHOICE_MEMBER(member, word) member,
/* Their words as one string, "a|b|c": the first bar is left out. */
#define CHOICE_WORD(member, word) "|" word
#define CHOICES_OF(list) (&(list##_CHOICES(CHOICE_WORD))[1])

/* clang-format off */
#define CONSOLE_CHOICES(V) \
    V(LOG_ON_COM1, "com1") V(LOG_ON_COM2, "com2") V(LOG_ON_VGA, "vga") V(LOG_ON_NONE, "none") \
    V(LOG_ON_PORT, "com:PORT")
#define LOG_CHOICES(V) V(LOG_ERR, "err") V(LOG_WARN, "warn") V(LOG_INFO, "info") V(LOG_DBG, "dbg")
#define ON_EXIT_CHOICES(V) \
    V(ON_EXIT_HALT, "halt") V(ON_EXIT_BOCHS, "bochs") V(ON_EXIT_QEMU, "qemu") V(ON_EXIT_RESET, "reset") \
    V(ON_EXIT_PORT, "port")
#define BITMAP_CHOICES(V) \
    V(BITMAP_TRACE, "trace") V(BITMAP_MERGE, "merge") V(BITMAP_ALLOW, "allow") V(BITMAP_EXIT, "exit")
#define GDB_CHOICES(V) V(GDB_NONE, "none") V(GDB_COM2, "com2") V(GDB_PORT, "com:PORT")
#define BOOT_CHOICES(V) V(BOOT_HD0, "hd0") V(BOOT_HD1, "hd1") V(BOOT_CD, "cd")
#define THEN_CHOICES(V) V(THEN_MENU, "menu") V(THEN_NEXT, "next")
#define STARTUP_CHOICES(V) V(STARTUP_AUTO, "auto") V(STARTUP_EXIT, "exit") V(STARTUP_TRAP, "trap")
#define DUMP_CHOICES(V) V(DUMP_NONE, "none") V(DUMP_VMCS12, "vmcs12")
#define VECTORING_CHOICES(V) V(VECTORING_CPU, "cpu") V(VECTORING_SVI, "svi")
#define SHADOWING_CHOICES(V) V(SHADOWING_OFF, "0") V(SHADOWING_VMCS02, "1") V(SHADOWING_SMALL, "small")
#define FAULT_CHOICES(V) \
    V(NO_INJECTED_FAULT, "none") V(FAULT_DROP_L0_BITS, "drop-l0-bits") V(FAULT_SKIP_REMERGE, "skip-remerge") \
    V(FAULT_SKIP_EPT02, "skip-ept02") V(FAULT_FORGET_GENERATION, "forget-generation") \
    V(FAULT_NEVER_REJOIN, "never-rejoin") V(FAULT_SKIP_KICK, "skip-kick") V(FAULT_READ_FIRST, "read-first") \
    V(FAULT_DROP_NMI_WINDOW, "drop-nmi-window") V(FAULT_HOST_WITHOUT_MCE, "host-without-mce") \
    V(FAULT_MACHINE_CHECK, "machine-check") V(FAULT_DROP_REPEAT_TRAP, "drop-repeat-trap") \
    V(FAULT_EARLY_GENERATION, "early-generation") V(FAULT_SKIP_INVEPT, "skip-invept") \
    V(FAULT_INVEPT_AT_ONCE, "invept-at-once") V(FAULT_KEEP_VPID, "keep-vpid") \
    V(FAULT_SKIP_INVVPID, "skip-invvpid") V(FAULT_KEEP_MISCONFIGURED, "keep-misconfigured") \
    V(FAULT_REFUSE_PROCESSOR, "refuse-processor") V(FAULT_VMX_LOCKED, "vmx-locked") V(FAULT_PANIC, "panic")
/* The rows of nested/quiet.def; then: what others change is not heard of; steps of nested/straight_ept and
 * nested/straight_lists; and what was known of another vmcs12 before counts. */
#define QUIET_CHOICES(V) \
    V(QUIET_FAULT_NONE, "none") V(QUIET_FAULT_PLAN, "plan") V(QUIET_FAULT_REVISIT, "revisit") \
    V(QUIET_FAULT_INVEPT, "invept") V(QUIET_FAULT_ROWS, "rows") V(QUIET_FAULT_BITMAPS, "bitmaps") \
    V(QUIET_FAULT_TREE, "tree") V(QUIET_FAULT_VPID, "vpid") V(QUIET_FAULT_SYSENTER, "sysenter") \
    V(QUIET_FAULT_LEFT, "left") V(QUIET_FAULT_EVENT, "event") \
    V(QUIET_FAULT_ACCESS, "access") V(QUIET_FAULT_ONCE, "once") V(QUIET_FAULT_WINDOW, "window") \
    V(QUIET_FAULT_STEP, "step") V(QUIET_FAULT_NMI, "nmi") V(QUIET_FAULT_REQUESTS, "requests") \
    V(QUIET_FAULT_DEAF, "deaf") V(QUIET_FAULT_UNMARKED, "unmarked") V(QUIET_FAULT_DELIVERY, "delivery") \
    V(QUIET_FAULT_HALF, "half") V(QUIET_FAULT_LOADED, "loaded") V(QUIET_FAULT_UNTOLD, "untold") \
    V(QUIET_FAULT_EPOCH, "epoch")
/* clang-format on */

#endif
