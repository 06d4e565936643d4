/* vmcs12: the fields of L1's current VMCS, by the list that Nestor was built with. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/window.h"

enum area { CTRL, GUEST, HOST, INFO };
static const char *const groups[] = {"controls", "guest state", "host state", "exit information"};

static const struct {
    const char *name;
    enum area area;
} fields[] = {
#define FIELD(name, encoding, width, area, ...) {#name, area},
#include "vmx/vmcs_fields.def"
#undef FIELD
};
#define FIELDS (sizeof fields / sizeof fields[0])

#define RETRIES 5

struct image {
    struct inspect_vmcs head;
    uint64_t value[FIELDS];
};

/* L1's hypervisor may run in between, and load another one. */
static void take(struct image *image)
{
    for (unsigned i = 0; i < RETRIES; i++) {
        window_read(INSPECT_OFFSET(INSPECT_VMCS, 0), image, sizeof *image);
        if (window_read64(INSPECT_OFFSET(INSPECT_VMCS, 0)) == image->head.vmptr)
            break;
    }
}

/* Fields that are not 0; of the VMCS that was printed last those that have changed. */
static void print(const struct image *now, const struct image *before)
{
    bool again = before->head.vmptr == now->head.vmptr;

    if (now->head.vmptr == ~0ull) {
        printf("L1 has no current VMCS on this processor\n");
        return;
    }
    printf("vmcs12 at gpa1=%lx, launch state %s\n", now->head.vmptr, now->head.launched ? "launched" : "clear");
    for (enum area area = CTRL; area <= INFO; area++) {
        bool named = false;
        for (size_t i = 0; i < FIELDS; i++) {
            uint64_t value = now->value[i], was = before->value[i];
            if (fields[i].area != area || (again ? value == was : !value))
                continue;
            if (!named)
                printf("  %s%s\n", groups[area], again ? ", changed since the last one" : "");
            named = true;
            printf("    %-36s %lx", fields[i].name, value);
            printf(again ? ", was %lx\n" : "\n", was);
        }
    }
    fflush(stdout);
}

int command_vmcs12(int argc, char **argv)
{
    static struct image now, before = {.head = {.vmptr = ~0ull}};
    struct loop arguments = {.interval = 1, .times = 1, .cpu = -1};
    struct inspect_header header;
    int status = loop_start(argc, argv, "vmcs12 [-i SECONDS] [-n TIMES] [-c CPU]", &arguments, &header);

    if (status)
        return status;
    if (arguments.cpu >= 0 && !window_move(arguments.cpu))
        return STATUS_FAILED;
    for (long i = 0; !arguments.times || i < arguments.times; i++) {
        if (i) {
            before = now;
            usleep((useconds_t)(arguments.interval * 1e6));
            putchar('\n');
        }
        take(&now);
        if (now.head.vmptr != ~0ull && now.head.fields != FIELDS) {
            fprintf(stderr, "nestorctl: this Nestor has other fields: use the nestorctl that was built with it\n");
            return STATUS_FAILED;
        }
        print(&now, &before);
    }
    return STATUS_OK;
}
