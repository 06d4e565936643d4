/* The three levels as gdb sees them: their registers, and their memory by their own tables.
 * On the processor of `vcpu`, between an exit and the next entry; the VMCS to enter is current before and after.
 * debug/ uses it. */
#ifndef DEBUG_LEVEL_H
#define DEBUG_LEVEL_H

#include "debug/commands.h"
#include "vmx/vcpu.h"

enum debug_level level_running(const struct vcpu *vcpu);
bool level_exists(const struct vcpu *vcpu, enum debug_level level);
/* The general registers are known of the level alone that runs: another's are wherever its software keeps them. */
void level_registers(struct vcpu *vcpu, enum debug_level level, struct debug_registers *to);
/* Of the level that runs alone, and what gdb itself changes: general registers, RIP, RSP, the flags. */
bool level_set_register(struct vcpu *vcpu, enum debug_level level, enum debug_register which, uint64_t value);
/* The linear address of the next instruction of the level that runs. */
uint64_t level_next(void);

/* Where a byte of a level lies. */
struct level_place {
    bool mapped;     /* by the level's paging: gpa is known */
    bool mapped_ept; /* and by EPT12: gpa1 is */
    gpa_t gpa;       /* gpa2 of L2 */
    gpa_t gpa1;
};
struct level_place level_find(struct vcpu *vcpu, enum debug_level level, gva_t gva);
/* As far as it is mapped, and RAM: how many bytes. Nothing that a guest could see changes, no A or D flag either. */
size_t level_read(struct vcpu *vcpu, enum debug_level level, gva_t gva, void *bytes, size_t size);
/* Of L1 and L2, whatever their pages allow. */
bool level_write(struct vcpu *vcpu, enum debug_level level, gva_t gva, const void *bytes, size_t size);

#endif
