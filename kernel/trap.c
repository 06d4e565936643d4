#include "kernel/trap.h"

#include "kernel/log.h"
#include "kernel/machine_check.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/x86.h"

#define FIRST_INTERRUPT 32

/* From linker.ld. */
extern const struct trap_fixup image_fixup_start[], image_fixup_end[];

static const char *const names[FIRST_INTERRUPT] = {
    [VECTOR_DE] = "#DE", [VECTOR_DB] = "#DB", [VECTOR_BP] = "#BP", [VECTOR_OF] = "#OF", [VECTOR_UD] = "#UD",
    [VECTOR_NM] = "#NM", [VECTOR_DF] = "#DF", [VECTOR_TS] = "#TS", [VECTOR_NP] = "#NP", [VECTOR_SS] = "#SS",
    [VECTOR_GP] = "#GP", [VECTOR_PF] = "#PF", [VECTOR_AC] = "#AC", [VECTOR_MC] = "#MC", [VECTOR_CP] = "#CP",
};

void (*trap_nmi)(struct trap_frame *frame);

static bool fix_up(struct trap_frame *frame)
{
    if (frame->vector != VECTOR_GP)
        return false;
    for (const struct trap_fixup *fixup = image_fixup_start; fixup < image_fixup_end; fixup++) {
        if (fixup->at == frame->rip) {
            frame->rip = fixup->to;
            return true;
        }
    }
    return false;
}

static NORETURN void die(const struct trap_frame *f)
{
    const char *name = names[f->vector] ? names[f->vector] : "exception";

    log_machine_ends();
    if (f->vector == VECTOR_MC)
        machine_check_report();
    log_err("trap", "%s (vector %lu) error code %#lx cr2=%#lx cr3=%#lx", name, f->vector, f->error_code, read_cr2(),
            read_cr3());
    log_err("trap", "rip=%#lx cs=%#lx rflags=%#lx rsp=%#lx ss=%#lx", f->rip, f->cs, f->rflags, f->rsp, f->ss);
    log_err("trap", "rax=%016lx rbx=%016lx rcx=%016lx rdx=%016lx", f->rax, f->rbx, f->rcx, f->rdx);
    log_err("trap", "rsi=%016lx rdi=%016lx rbp=%016lx r8 =%016lx", f->rsi, f->rdi, f->rbp, f->r8);
    log_err("trap", "r9 =%016lx r10=%016lx r11=%016lx r12=%016lx", f->r9, f->r10, f->r11, f->r12);
    log_err("trap", "r13=%016lx r14=%016lx r15=%016lx", f->r13, f->r14, f->r15);
    panic("%s in Nestor at rip=%#lx", name, f->rip);
}

void trap_handle(struct trap_frame *frame)
{
    if (frame->vector == VECTOR_NMI) {
        if (trap_nmi)
            trap_nmi(frame);
        else
            this_cpu()->nmi_seen = true;
        return;
    }
    /* Nestor runs with interrupts off: one that comes nevertheless is spurious, and L1's APIC is L1's to
     * acknowledge. */
    if (frame->vector >= FIRST_INTERRUPT)
        return;
    if (!fix_up(frame))
        die(frame);
}
