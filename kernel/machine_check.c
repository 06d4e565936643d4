#include "kernel/machine_check.h"

#include "kernel/log.h"
#include "kernel/msr.h"
#include "kernel/safe.h"

#define MCG_CAP_COUNT BITS(7, 0)
#define STATUS_VALID BIT(63)
#define STATUS_MISC_VALID BIT(59)
#define STATUS_ADDRESS_VALID BIT(58)
#define REGISTERS_OF_BANK 4 /* CTL, STATUS, ADDR, MISC */

/* 0 where the register is not there, or says nothing. */
static uint64_t read_if(bool valid, uint32_t msr)
{
    uint64_t value = 0;
    return valid && rdmsr_safe(msr, &value) ? value : 0;
}

static bool report_bank(unsigned bank)
{
    uint32_t first = IA32_MC0_CTL + REGISTERS_OF_BANK * bank;
    uint64_t status = read_if(true, first + 1);
    if (!(status & STATUS_VALID))
        return false;
    log_err("mce", "bank %u: MCi_STATUS=%016lx MCi_ADDR=%lx MCi_MISC=%lx", bank, status,
            read_if(status & STATUS_ADDRESS_VALID, first + 2), read_if(status & STATUS_MISC_VALID, first + 3));
    return true;
}

void machine_check_report(void)
{
    unsigned banks = (unsigned)GET(read_if(true, IA32_MCG_CAP), MCG_CAP_COUNT), errors = 0;
    for (unsigned bank = 0; bank < banks; bank++)
        errors += report_bank(bank);
    log_err("mce",
            "machine check: MCG_STATUS=%lx, %u of %u banks hold an error. The machine itself has found a fault in its "
            "hardware; keep these lines, they say in which part (mcelog --ascii, rasdaemon), and reset",
            read_if(true, IA32_MCG_STATUS), errors, banks);
}
