#include <stdio.h>
#include <stdlib.h>

#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/window.h"

int command_id(int argc, char **argv)
{
    struct inspect_header header;
    uint32_t version, processors;
    uint16_t port;

    (void)argv;
    if (argc != 1) {
        fprintf(stderr, "nestorctl: id takes no arguments\n");
        return STATUS_USAGE;
    }
    if (!window_find(&port, &version, &processors)) {
        printf("not under Nestor, or Nestor runs without the option inspect=PORT\n");
        return STATUS_FAILED;
    }
    printf("under Nestor: CPUID leaf %XH says %s, port %#x, %u processor%s\n", window_leaf(), INSPECT_SIGNATURE, port,
           processors, processors == 1 ? "" : "s");
    if (window_open(&header))
        return STATUS_FAILED;
    char *text = calloc(1, header.text_bytes + 1);
    if (!text)
        return STATUS_FAILED;
    window_read(INSPECT_OFFSET(INSPECT_TEXT, 0), text, header.text_bytes);
    fputs(text, stdout);
    free(text);
    return STATUS_OK;
}
