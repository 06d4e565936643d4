/* Devices see accesses and not bytes: reading a register may acknowledge something, and a 32-bit register that is
 * written byte by byte is written four times. So an operand goes in one piece where a register has its width. The
 * direct map leads to the device; the CPU's MTRRs, which stay as the firmware set them, keep it uncached. */
#include "vmx/mmio.h"

#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "mm/hpt.h"
#include "vmx/msr_guest.h"
#include "vmx/startup.h"

#define APIC_REGISTER_STEP 16 /* bytes from one register to the next */

enum place { PLACE_NOBODY, PLACE_DEVICE, PLACE_APIC };

/* True if the local APIC's registers are there now: xAPIC mode, at the base that L1 chose. */
static bool is_apic_page(gpa_t gpa)
{
    uint64_t base = rdmsr(IA32_APIC_BASE);
    return (base & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EN &&
           ALIGN_DOWN(gpa, PAGE_SIZE) == (base & BITS(51, 12));
}

/* Whose an access beyond RAM is. Nestor's own memory and what its tables do not reach are nobody's: reads give ones,
 * writes are dropped. The APIC takes aligned words alone. */
static enum place place_of(const struct vcpu *vcpu, gpa_t gpa, unsigned len)
{
    if (ept_is_carveout(&vcpu->vm->ept01, gpa) || !hpt_maps(gpa, len))
        return PLACE_NOBODY;
    if (!is_apic_page(gpa))
        return PLACE_DEVICE;
    return len == sizeof(uint32_t) && IS_ALIGNED(gpa, APIC_REGISTER_STEP) && !vcpu_apic_is_off(vcpu) ? PLACE_APIC
                                                                                                     : PLACE_NOBODY;
}

/* In one piece if a register has that width, else by the largest pieces that fit. */
#define COPY(type)                                                                                                     \
    {                                                                                                                  \
        type value;                                                                                                    \
        if (load) {                                                                                                    \
            value = *(const volatile type *)device;                                                                    \
            memcpy(buffer, &value, sizeof value);                                                                      \
        } else {                                                                                                       \
            memcpy(&value, buffer, sizeof value);                                                                      \
            *(volatile type *)device = value;                                                                          \
        }                                                                                                              \
        device += sizeof value;                                                                                        \
        buffer += sizeof value;                                                                                        \
        len -= (unsigned)sizeof value;                                                                                 \
    }

/* From the widest piece to the narrowest: an operand of 32 bytes is four accesses. */
static void copy(bool load, uint8_t *device, uint8_t *buffer, unsigned len)
{
    while (len >= 8)
        COPY(uint64_t)
    if (len >= 4)
        COPY(uint32_t)
    if (len >= 2)
        COPY(uint16_t)
    if (len)
        COPY(uint8_t)
}

void mmio_read(struct vcpu *vcpu, gpa_t gpa, void *buffer, unsigned len)
{
    if (place_of(vcpu, gpa, len) == PLACE_NOBODY)
        memset(buffer, 0xff, len);
    else
        copy(true, hpa_to_va(gpa), buffer, len);
}

void mmio_write(struct vcpu *vcpu, gpa_t gpa, const void *buffer, unsigned len)
{
    uint8_t bytes[32]; /* the widest operand */
    uint32_t value;
    enum place place = place_of(vcpu, gpa, len);
    if (place == PLACE_APIC && startup_is_trapped(vcpu->vm, gpa)) {
        memcpy(&value, buffer, sizeof value);
        startup_write_register(vcpu, gpa, value);
    } else if (place != PLACE_NOBODY && len <= sizeof bytes) {
        /* A copy, as the pieces are taken from it by their widths. */
        memcpy(bytes, buffer, len);
        copy(false, hpa_to_va(gpa), bytes, len);
    }
}
