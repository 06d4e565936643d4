/* Where INIT and start-up IPIs are no VM exits, L1's stores to the interrupt command register are the only place
 * where Nestor can learn of them. The page of the APIC is read-only in EPT01, so each store to it comes here. */
#include "vmx/startup_store.h"

#include "kernel/log.h"
#include "vmx/breakpoint.h"
#include "vmx/event.h"
#include "vmx/gva.h"
#include "vmx/msr_guest.h"
#include "vmx/skip.h"
#include "vmx/startup.h"
#include "vmx/store_decode.h"
#include "vmx/vmcs_setup.h"

/* How the code segment makes the CPU read instructions. */
static unsigned code_bits(void)
{
    uint32_t access = vmcs_read(GUEST_CS_AR_BYTES);
    if (access & AR_L)
        return 64;
    return access & AR_DB ? 32 : 16;
}

/* Reads as far as the page goes, then what is behind it: the instruction need not go that far. */
static unsigned fetch(struct vcpu *vcpu, uint8_t *bytes)
{
    gva_t at = vmcs_read(GUEST_CS_BASE) + vmcs_read(GUEST_RIP);
    unsigned first = (unsigned)MIN(PAGE_SIZE - (at & PAGE_MASK), STORE_LENGTH_MAX);
    struct fault fault;

    if (!gva_read_as(vcpu, at, bytes, first, GVA_READ | GVA_IMPLICIT, &fault))
        first = 0;
    else if (first < STORE_LENGTH_MAX &&
             gva_read_as(vcpu, at + first, bytes + first, STORE_LENGTH_MAX - first, GVA_READ | GVA_IMPLICIT, &fault))
        first = STORE_LENGTH_MAX;
    vcpu->l2_unmapped = false; /* what could not be read is no exit of L1's */
    return first;
}

void startup_store(struct vcpu *vcpu, gpa_t gpa)
{
    EXPECT_GUEST(vcpu);
    uint8_t bytes[STORE_LENGTH_MAX];
    struct store store;
    unsigned size = fetch(vcpu, bytes);
    bool known = store_decode(bytes, size, code_bits(), &store), off = vcpu_apic_is_off(vcpu);

    if (!known || (!off && (store.width != sizeof(uint32_t) || !IS_ALIGNED(gpa, 16)))) {
        log_warn("startup", "a store to the APIC at offset %x that Nestor cannot read, rip=%lx: #GP",
                 (uint32_t)(gpa & PAGE_MASK), vmcs_read(GUEST_RIP));
        event_inject_gp(vcpu, 0);
        return;
    }
    uint64_t value = store.immediate ? store.value : store.reg == RSP ? vmcs_read(GUEST_RSP) : vcpu->regs[store.reg];
    /* An EPT violation has no instruction length: it is the decoder's. */
    vcpu->exit.instruction_length = store.length;
    breakpoint_memory(vcpu, true, vcpu->exit.guest_linear_address, store.width);
    vcpu_skip_instruction(vcpu);
    /* Last: a start-up IPI to itself, or an INIT, changes all that was written before. */
    if (!off) /* else its page is nobody's */
        startup_write_register(vcpu, gpa, (uint32_t)value);
}
