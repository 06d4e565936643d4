/* check: whether Nestor would run on this machine, before anybody reboots it. One line for each thing: ok, warning or
 * blocks, what it means and what to do. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/msr.h"
#include "mm/carveout.h"
#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/machine.h"
#include "vmx/caps.h"
#include "vmx/vmx_bits.h"

#define CPUS_MAX 4096u
static unsigned cpus[CPUS_MAX], count;
static bool blocked;

static void say(const char *verdict, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const char *verdict, const char *fmt, ...)
{
    va_list args;

    blocked |= !strcmp(verdict, "blocks");
    printf("%-8s", verdict);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

static void check_vmx(void)
{
    unsigned without = 0;

    for (unsigned i = 0; i < count; i++) {
        char *flags = machine_cpuinfo(cpus[i], "flags");
        without += !flags || !machine_has_word(flags, "vmx");
        free(flags);
    }
    if (without)
        say("blocks",
            "VMX: %u of %u processors have none. Switch on Intel VT-x in the firmware's set-up; AMD's CPUs have "
            "another thing, SVM",
            without, count);
    else
        say("ok", "VMX: all %u processors have it", count);
}

static void check_hypervisor(void)
{
    char *flags = machine_cpuinfo(cpus[0], "flags");

    if (flags && machine_has_word(flags, "hypervisor"))
        say("warning", "hypervisor: this system is a guest already. Nestor needs its host's nested VMX then");
    free(flags);
}

/* True if the MSRs can be read at all. */
static bool check_msr_driver(void)
{
    uint64_t value;

    if (machine_msr(cpus[0], IA32_FEATURE_CONTROL, &value))
        return true;
    say("warning",
        "MSRs: they cannot be read, so what VMX can do is not known. As root: modprobe msr; a kernel locked down "
        "by Secure Boot forbids it");
    return false;
}

static void check_feature_control(void)
{
    unsigned off = 0;
    uint64_t value;

    for (unsigned i = 0; i < count; i++)
        if (machine_msr(cpus[i], IA32_FEATURE_CONTROL, &value))
            off += (value & FEATURE_CONTROL_LOCK) && !(value & FEATURE_CONTROL_VMX_OUTSIDE_SMX);
    if (off)
        say("blocks",
            "FEATURE_CONTROL: the firmware has locked VMX off on %u of %u processors. Switch on Intel VT-x in its "
            "set-up, and power the machine off and on",
            off, count);
    else
        say("ok", "FEATURE_CONTROL: VMX is not locked off");
}

static struct ctl_caps controls(unsigned processor, uint32_t plain, uint32_t exact, bool has_exact)
{
    uint64_t value = 0;

    if (!has_exact || !machine_msr(processor, exact, &value))
        (void)machine_msr(processor, plain, &value);
    return (struct ctl_caps){.must = (uint32_t)value, .may = (uint32_t)(value >> 32)};
}

static struct vmx_caps read_caps(unsigned processor)
{
    struct vmx_caps caps = {0};

    (void)machine_msr(processor, IA32_VMX_BASIC, &caps.basic);
    bool exact = caps.basic & VMX_BASIC_TRUE_CONTROLS;
    caps.pin = controls(processor, IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS, exact);
    caps.proc = controls(processor, IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS, exact);
    caps.exit = controls(processor, IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS, exact);
    caps.entry = controls(processor, IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS, exact);
    if (caps.proc.may & PROC_SECONDARY)
        caps.proc2 = controls(processor, IA32_VMX_PROCBASED_CTLS2, 0, false);
    if (caps.proc2.may & (PROC2_EPT | PROC2_VPID))
        (void)machine_msr(processor, IA32_VMX_EPT_VPID_CAP, &caps.ept_vpid);
    return caps;
}

static void check_features(void)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } useful[] = {{"VPID", PROC2_VPID}, {"VMCS shadowing", PROC2_VMCS_SHADOWING}, {"APICv", PROC2_VIRTUAL_INTERRUPTS}};

    for (unsigned i = 0; i < count; i++) {
        struct vmx_caps caps = read_caps(cpus[i]);
        const char *missing = caps_missing(&caps);
        if (missing) {
            say("blocks",
                "VMX features: processor %u lacks %s, which Nestor needs. This CPU is too old, or its host does "
                "not offer it",
                cpus[i], missing);
            return;
        }
    }
    say("ok", "VMX features: all that Nestor needs are there");
    struct vmx_caps caps = read_caps(cpus[0]);
    for (unsigned i = 0; i < ARRAY_SIZE(useful); i++)
        if (!(caps.proc2.may & useful[i].bit))
            say("warning", "VMX features: no %s. Nestor runs without it, and slower", useful[i].name);
}

/* The capability MSRs of the SDM's appendix A, each compared with the first processor's. */
static void check_mixed(void)
{
    for (uint32_t msr = IA32_VMX_BASIC; msr <= IA32_VMX_VMFUNC; msr++) {
        uint64_t first = 0, other = 0;
        bool has = machine_msr(cpus[0], msr, &first);
        for (unsigned i = 1; i < count; i++)
            if (machine_msr(cpus[i], msr, &other) != has || other != first) {
                say("warning",
                    "mixed cores: processors %u and %u differ in MSR %XH (%lX and %lX). If Nestor refuses them, "
                    "leave the others out by cpus=",
                    cpus[0], cpus[i], msr, first, other);
                return;
            }
    }
    say("ok", "mixed cores: all processors have the same VMX");
}

static void check_microcode(void)
{
    char *first = machine_cpuinfo(cpus[0], "microcode");

    for (unsigned i = 1; i < count && first; i++) {
        char *other = machine_cpuinfo(cpus[i], "microcode");
        if (other && strcmp(first, other) != 0) {
            say("warning",
                "microcode: processors %u and %u have %s and %s. Update the firmware or install intel-microcode",
                cpus[0], cpus[i], first, other);
            free(other);
            free(first);
            return;
        }
        free(other);
    }
    if (first)
        say("ok", "microcode: %s. Under Nestor L1 cannot load another: have it loaded by the firmware", first);
    free(first);
}

#define SECURE_BOOT "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

static void check_firmware(void)
{
    size_t size = 0;

    if (!machine_exists(machine_path("/sys/firmware/efi"))) {
        say("ok", "firmware: BIOS");
        return;
    }
    char *bits = machine_read(machine_path("/sys/firmware/efi/fw_platform_size"), NULL);
    if (bits && atoi(bits) == 32)
        say("blocks",
            "firmware: UEFI of 32 bits, from which Nestor does not start. Boot by the BIOS way (CSM) if there is one");
    else
        say("ok", "firmware: UEFI");
    free(bits);
    char *variable = machine_read(machine_path(SECURE_BOOT), &size);
    if (variable && size >= 5 && variable[4] == 1)
        say("blocks",
            "Secure Boot: it is on, and GRUB will say \"prohibited by secure boot policy\". Switch it off in the "
            "firmware's set-up");
    else
        say("ok", "Secure Boot: off");
    free(variable);
}

/* /proc/iomem, of whose addresses root alone sees more than zeros. */
static void check_memory(void)
{
    char *text = machine_read(machine_path("/proc/iomem"), NULL);
    uint64_t total = 0, low = 0, any = 0;

    for (char *line = strtok(text ? text : (char[]){""}, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long first, last;
        if (*line == ' ' || sscanf(line, "%lx-%lx : System RAM", &first, &last) != 2 || !strstr(line, "System RAM"))
            continue;
        uint64_t size = last ? last + 1 - first : 0;
        total += size;
        any = MAX(any, size);
        if (first < 4 * GIB)
            low = MAX(low, MIN(last + 1, 4 * GIB) - first);
    }
    free(text);
    if (!total) {
        say("warning", "memory: its map cannot be read. Run this as root");
        return;
    }
    uint64_t wanted = carveout_mib(total / MIB, MIN(count, MAX_CPUS));
    if (low / MIB < wanted && any / MIB < wanted)
        say("blocks",
            "memory: Nestor takes %llu MiB in one piece, and the largest is of %llu MiB. Give it less by memory=",
            (unsigned long long)wanted, any / MIB);
    else
        say("ok", "memory: of %llu MiB Nestor takes %llu%s", total / MIB, (unsigned long long)wanted,
            low / MIB < wanted ? ", above 4 GiB as below no piece is large enough" : "");
}

static void check_processors(void)
{
    uint64_t base;

    if (count > MAX_CPUS)
        say("warning", "processors: Nestor runs %u of %u, the others are hidden from L1", MAX_CPUS, count);
    if (machine_msr(cpus[0], IA32_APIC_BASE, &base))
        say("ok", "APIC: in %s mode now", base & APIC_BASE_EXTD ? "x2APIC" : "xAPIC");
}

static void check_iommu(void)
{
    bool has = machine_exists(machine_path("/sys/firmware/acpi/tables/DMAR"));

    say("ok", "IOMMU: %s. Nestor leaves it to L1: do not run an L1 that you do not trust",
        has ? "there is one" : "none told of");
}

/* "0: uart:16550A port:000003F8 irq:4 ..." */
static void check_serial(void)
{
    char *text = machine_read(machine_path("/proc/tty/driver/serial"), NULL);
    unsigned found = 0;

    if (!text) /* the driver's name in Linux 7.2 */
        text = machine_read(machine_path("/proc/tty/driver/serial_8250"), NULL);

    for (char *line = strtok(text ? text : (char[]){""}, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned number;
        char kind[32] = "";
        unsigned long port;
        if (sscanf(line, "%u: uart:%31s port:%lx", &number, kind, &port) != 3 || !strcmp(kind, "unknown"))
            continue;
        found++;
        if (port == 0x3f8)
            say("ok", "serial: ttyS%u at 3F8H. It is L1's; console=com1 makes it Nestor's", number);
        else if (port == 0x2f8)
            say("ok", "serial: ttyS%u at 2F8H, which Nestor takes by default; console=none leaves it to L1", number);
        else
            say("ok", "serial: ttyS%u at %lXH: console=com:0x%lx logs there", number, port, port);
    }
    free(text);
    if (!found)
        say("ok", "serial: none. Nestor's log is on the screen until L1 starts, and then in nestorctl log (inspect=)");
}

static void check_grub(void)
{
    static const char *const folders[] = {"x86_64-efi", "i386-pc"};
    char *config = machine_read(machine_path("/boot/grub/grub.cfg"), NULL);
    bool module = false;

    for (unsigned i = 0; i < ARRAY_SIZE(folders); i++)
        module |= machine_exists(machine_path("/boot/grub/%s/multiboot2.mod", folders[i]));
    if (!config)
        say("warning",
            "GRUB: no /boot/grub/grub.cfg that can be read. Nestor is started by GRUB 2 (or run this as root)");
    else if (!module)
        say("blocks",
            "GRUB: it has no multiboot2 module here. Install grub-efi-amd64 or grub-pc, and run grub-install");
    else if (strstr(config, "menuentry_id_option 'nestor'"))
        say("ok", "GRUB: its menu has Nestor. Once: nestor-boot-once && systemctl reboot");
    else
        say("warning", "GRUB: its menu has no Nestor yet. make install, or install the package; then update-grub");
    free(config);
}

int command_check(int argc, char **argv)
{
    (void)argv;
    if (argc != 1) {
        fprintf(stderr, "nestorctl: check takes no arguments\n");
        return STATUS_USAGE;
    }
    count = machine_processors(cpus, CPUS_MAX);
    if (!count) {
        fprintf(stderr, "nestorctl: Linux names no processors in /sys: is it mounted?\n");
        return STATUS_FAILED;
    }
    check_vmx();
    check_hypervisor();
    if (check_msr_driver()) {
        check_feature_control();
        check_features();
        check_mixed();
    }
    check_microcode();
    check_firmware();
    check_memory();
    check_processors();
    check_iommu();
    check_serial();
    check_grub();
    printf("%s\n",
           blocked ? "Nestor would not start here: see what blocks." : "Nothing here keeps Nestor from starting.");
    return blocked ? STATUS_FAILED : STATUS_OK;
}
