/* HTML pages of one file each: a page of tools/, and in it the data that it shows. */
#include "tools/nestorctl/page.h"

#include <string.h>

#define DATA "/*DATA*/null" /* where the data goes */

#define PAGE(name, file)                                                                                               \
    __asm__(".pushsection .rodata\n.globl " #name "\n" #name ": .incbin \"" file "\"\n.byte 0\n.popsection\n")
PAGE(page_bitmap, "tools/bitmap-report.html");
PAGE(page_timeline, "tools/timeline.html");

int page_write(FILE *out, const char *page, void (*print_data)(FILE *out, const void *data), const void *data)
{
    const char *place = strstr(page, DATA);

    fwrite(page, 1, (size_t)(place - page), out);
    print_data(out, data);
    fputs(place + strlen(DATA), out);
    return ferror(out) ? -1 : 0;
}
