/* report: one archive for a bug report, with what check, id, log and stat say and what Linux tells of the machine. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/msr.h"
#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/machine.h"

#define BLOCK 512
#define KLOG_READ_ALL 3
#define KLOG_SIZE 10
#define CPUS_MAX 4096u

/* POSIX.1-1988 ustar: one header. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], time[12], sum[8], type, link[100], magic[6], version[2];
    char rest[BLOCK - 265];
};
_Static_assert(sizeof(struct header) == BLOCK, "a block");

static FILE *archive;
static char folder[64];

static void add(const char *name, const char *data, size_t size)
{
    static const char zeros[BLOCK];
    struct header header = {.mode = "0000644", .uid = "0000000", .gid = "0000000", .type = '0', .magic = "ustar"};
    unsigned sum = 0;

    snprintf(header.name, sizeof header.name, "%s/%s", folder, name);
    snprintf(header.size, sizeof header.size, "%011zo", size);
    snprintf(header.time, sizeof header.time, "%011lo", (unsigned long)time(NULL));
    memcpy(header.version, "00", 2);
    memset(header.sum, ' ', sizeof header.sum);
    for (size_t i = 0; i < sizeof header; i++)
        sum += ((const unsigned char *)&header)[i];
    snprintf(header.sum, sizeof header.sum, "%06o", sum);
    fwrite(&header, 1, sizeof header, archive);
    fwrite(data, 1, size, archive);
    fwrite(zeros, 1, (BLOCK - size % BLOCK) % BLOCK, archive);
}

static void add_file(const char *name, const char *path)
{
    size_t size;
    char *data = machine_read(machine_path("%s", path), &size);

    if (data)
        add(name, data, size);
    free(data);
}

/* The output of the command, errors included. A process of its own: some end it. */
static void add_command(const char *name, int (*command)(int argc, char **argv))
{
    char *argv[] = {strdup(name), NULL}, *text = NULL;
    FILE *out = tmpfile();
    pid_t child = out ? fork() : -1;

    if (child == 0) {
        dup2(fileno(out), STDOUT_FILENO);
        dup2(fileno(out), STDERR_FILENO);
        int status = command(1, argv);
        fflush(stdout);
        _exit(status);
    }
    if (child > 0) {
        waitpid(child, NULL, 0);
        long size = fseek(out, 0, SEEK_END) ? 0 : ftell(out);
        text = malloc((size_t)size + 1);
        rewind(out);
        if (text)
            add(name, text, fread(text, 1, (size_t)size, out));
    }
    if (out)
        fclose(out);
    free(text);
    free(argv[0]);
}

/* In the form that NESTORCTL_ROOT takes: a report can be checked again elsewhere. */
static void add_msrs(void)
{
    static unsigned cpus[CPUS_MAX];
    unsigned count = machine_processors(cpus, CPUS_MAX);

    for (unsigned i = 0; i < count; i++) {
        char text[4096], name[64];
        size_t used = 0;
        uint64_t value;
        static const uint32_t others[] = {IA32_APIC_BASE, IA32_FEATURE_CONTROL};
        for (unsigned k = 0; k < ARRAY_SIZE(others); k++)
            if (machine_msr(cpus[i], others[k], &value))
                used += (size_t)snprintf(text + used, sizeof text - used, "%x %lx\n", others[k], value);
        for (uint32_t msr = IA32_VMX_BASIC; msr <= IA32_VMX_BASIC + 0x13; msr++)
            if (machine_msr(cpus[i], msr, &value))
                used += (size_t)snprintf(text + used, sizeof text - used, "%x %lx\n", msr, value);
        snprintf(name, sizeof name, "root/dev/cpu/%u/msr", cpus[i]);
        add(name, text, used);
    }
}

static void add_kernel_log(void)
{
    int room = klogctl(KLOG_SIZE, NULL, 0);
    char *text = room > 0 ? malloc((size_t)room) : NULL;
    int size = text ? klogctl(KLOG_READ_ALL, text, room) : -1;

    if (size > 0)
        add("dmesg", text, (size_t)size);
    free(text);
}

static void add_all(void)
{
    static const char *const files[] = {"/proc/cpuinfo",
                                        "/proc/iomem",
                                        "/proc/cmdline",
                                        "/proc/version",
                                        "/proc/interrupts",
                                        "/proc/tty/driver/serial",
                                        "/proc/tty/driver/serial_8250",
                                        "/sys/devices/system/cpu/online",
                                        "/sys/firmware/efi/fw_platform_size",
                                        "/sys/class/dmi/id/sys_vendor",
                                        "/sys/class/dmi/id/product_name",
                                        "/sys/class/dmi/id/board_name",
                                        "/sys/class/dmi/id/bios_version",
                                        "/sys/class/dmi/id/bios_date",
                                        "/sys/firmware/acpi/tables/APIC",
                                        "/sys/firmware/acpi/tables/FACP",
                                        "/etc/os-release",
                                        "/etc/default/nestor"};

    add_command("check", command_check);
    add_command("id", command_id);
    add_command("log", command_log);
    add_command("stat", command_stat);
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        char name[MACHINE_PATH];
        snprintf(name, sizeof name, "root%s", files[i]);
        add_file(name, files[i]);
    }
    add_msrs();
    add_kernel_log();
}

int command_report(int argc, char **argv)
{
    static const char end[2 * BLOCK];
    char own[80];
    time_t now = time(NULL);

    if (argc > 2) {
        fprintf(stderr, "nestorctl: report [FILE]\n");
        return STATUS_USAGE;
    }
    strftime(folder, sizeof folder, "nestor-report-%Y%m%d-%H%M%S", gmtime(&now));
    snprintf(own, sizeof own, "%s.tar", folder);
    const char *path = argc == 2 ? argv[1] : own;
    archive = fopen(path, "we");
    if (!archive) {
        fprintf(stderr, "nestorctl: %s cannot be written\n", path);
        return STATUS_FAILED;
    }
    add_all();
    fwrite(end, 1, sizeof end, archive);
    if (ferror(archive) | fclose(archive)) {
        fprintf(stderr, "nestorctl: %s could not be written whole\n", path);
        return STATUS_FAILED;
    }
    printf("%s: look through it before you send it; it has this system's kernel log and command line\n", path);
    return STATUS_OK;
}
