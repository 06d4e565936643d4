/* How the checks of VM entry are written down: rows in tables, a table per section of the SDM, in the SDM's order.
 * A row is judged only when those before it held, so a later row may rely on an earlier one (an address that was found
 * to be good is then read).
 * nested/rules/check*.c and their tests. */
#ifndef NESTED_RULES_CHECK_ROWS_H
#define NESTED_RULES_CHECK_ROWS_H

#include "nested/rules/check.h"

/* Words that a row's condition is about: the controls, the event to inject and the mode of the guest. */
enum check_word { CHECK_PIN, CHECK_PROC, CHECK_PROC2, CHECK_EXIT, CHECK_ENTRY, CHECK_EVENT, CHECK_MODE, CHECK_WORDS };

/* Bits of the word CHECK_MODE. */
#define MODE_V8086 BIT(0) /* RFLAGS.VM */
#define MODE_NOT_V8086 BIT(1)
#define MODE_RESTRICTED BIT(2)    /* unrestricted guest is 0 */
#define MODE_PAE BIT(3)           /* PAE paging: CR0.PG, CR4.PAE, no IA-32e mode */
#define MODE_PAE_IN_MEMORY BIT(4) /* the same, with the PDPTEs in L1's memory (no EPT) */
#define MODE_LINKED BIT(5)        /* the VMCS link pointer is in use: not all-ones */
#define MODE_BS_MATTERS BIT(6)    /* pending debug exceptions are checked against RFLAGS.TF */

/* Segment registers in the order of their VMCS fields. */
enum segment { SEGMENT_ES, SEGMENT_CS, SEGMENT_SS, SEGMENT_DS, SEGMENT_FS, SEGMENT_GS, SEGMENT_LDTR, SEGMENT_TR };

/* One VM entry under check, and the row that is being judged. */
struct check {
    const struct vmcs12 *v;
    const struct vmx_caps *caps;
    const struct check_context *context;
    uint64_t word[CHECK_WORDS]; /* PROC2: zero unless activated; EVENT: zero unless valid */
    uint64_t value;             /* of the row's field */
    enum segment segment;       /* the row's, when it is about a segment register */
};

struct check_row {
    const char *rule;
    uint16_t field;        /* FIELD_INDEX_: whose value is judged and reported */
    uint8_t segment;       /* enum segment */
    uint8_t word;          /* enum check_word: the row applies only while all bits of `when` are 1 in it */
    uint32_t when;         /* 0: applies always */
    uint8_t qualification; /* of exit 33 */
    bool (*holds)(const struct check *c);
};

struct check_table {
    enum check_kind kind;
    const char *citation;
    const struct check_row *rows;
    unsigned count;
};

#define CHECK_TABLE(kind_, citation_, rows_)                                                                           \
    {                                                                                                                  \
        .kind = kind_, .citation = citation_, .rows = rows_, .count = ARRAY_SIZE(rows_)                                \
    }

/* Writing a row: CHECK_ROW("name", FIELD, condition, .holds = function), with further members as needed. */
#define CHECK_ROW(name, on, ...)                                                                                       \
    {                                                                                                                  \
        .rule = name, .field = FIELD_INDEX_##on, __VA_ARGS__                                                           \
    }
#define ALWAYS .when = 0
#define IF_PIN(bits) .word = CHECK_PIN, .when = (bits)
#define IF_PROC(bits) .word = CHECK_PROC, .when = (bits)
#define IF_PROC2(bits) .word = CHECK_PROC2, .when = (bits)
#define IF_EXIT(bits) .word = CHECK_EXIT, .when = (bits)
#define IF_ENTRY(bits) .word = CHECK_ENTRY, .when = (bits)
#define IF_EVENT .word = CHECK_EVENT, .when = INTR_VALID
#define IF_MODE(bits) .word = CHECK_MODE, .when = (bits)

extern const struct check_table check_execution_controls, check_tpr_threshold, check_exit_controls,
    check_entry_controls;
extern const struct check_table check_host_registers, check_host_segments, check_host_space;
extern const struct check_table check_guest_registers, check_guest_segments, check_guest_tables, check_guest_rip;
extern const struct check_table check_guest_ssp;
extern const struct check_table check_guest_state, check_guest_pdptes;
/* All of them, in the order in which they are judged. */
#define CHECK_TABLES 14
extern const struct check_table *const check_order[CHECK_TABLES];

static inline bool check_canonical(const struct check *c, uint64_t address)
{
    return x86_is_canonical(address, c->caps->linear_bits);
}

/* No bits beyond the physical-address width. */
static inline bool check_within_width(const struct check *c, uint64_t address)
{
    return (address & (~0ull << c->caps->address_bits)) == 0;
}

/* True if an event of the type is to be injected. */
static inline bool check_event_is(const struct check *c, unsigned type)
{
    return c->word[CHECK_EVENT] & INTR_VALID && GET(c->word[CHECK_EVENT], INTR_TYPE) == type;
}

/* Judgements that more than one area needs. */
bool check_value_canonical(const struct check *c);
bool check_value_within_width(const struct check *c);
bool check_cr3_reserved(const struct check *c);
bool check_value_is_pat(const struct check *c);
bool check_efer_reserved(const struct check *c);
bool check_cr4_fixed(const struct check *c);
bool check_s_cet(const struct check *c);
bool check_upper_half_clear(const struct check *c);
bool check_ssp_aligned(const struct check *c);

#endif
