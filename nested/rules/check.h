/* The checks of VM entry on vmcs12, as rows (SDM 3C 27.2 "Checks on VMX Controls and Host-State Area", 27.3 "Checking
 * and Loading Guest State"), each with its citation.
 * Pure over struct vmcs12, the offered capabilities and what check_context says of L1.
 * nested/enter calls check_entry_scoped() (nested/rules/check_scope.h) before it writes to vmcs02. */
#ifndef NESTED_RULES_CHECK_H
#define NESTED_RULES_CHECK_H

#include "nested/rules/vmcs12.h"
#include "vmx/caps.h"

struct check_context {
    const struct vmx_caps *caps; /* offered to L1 */
    bool l1_long_mode;           /* IA32_EFER.LMA of L1 at VM entry */
    /* For checks that look into L1's memory (VMCS link pointer's revision, PDPTEs, APIC pages): reads, all-ones when
     * not RAM. */
    void (*read)(void *context, gpa_t gpa, void *buffer, unsigned len);
    void *context;
    gpa_t current_vmptr, vmxon_pointer;
};

enum check_kind { CHECK_OK, CHECK_FAIL_CONTROLS, CHECK_FAIL_HOST, CHECK_FAIL_GUEST };

#define CHECK_RULES_MAX 256

struct check_result {
    enum check_kind kind;
    uint16_t number;        /* of the rule among all, below CHECK_RULES_MAX */
    uint16_t field;         /* FIELD_INDEX_: the offending field */
    const char *rule;       /* the name of the row that failed, for the log */
    const char *citation;   /* the SDM's section that has it */
    uint64_t value;         /* the field's value */
    uint64_t qualification; /* of exit 33: SDM 3C 27.8 "VM-Entry Failures During or After Loading Guest State" */
};

/* Controls and host state (VMfail 7 or 8), then guest state (exit 33). The first failing row wins. */
struct check_result check_entry(const struct vmcs12 *v, const struct check_context *context);
/* True if VM entry would accept the EPTP: INVEPT asks the same (SDM 3C 31.3 "INVEPT"). */
bool check_eptp(const struct vmx_caps *caps, uint64_t eptp);

#endif
