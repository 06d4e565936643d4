/* HTML pages that need nothing else to be looked at. */
#ifndef NESTORCTL_PAGE_H
#define NESTORCTL_PAGE_H

#include <stdio.h>

extern const char page_bitmap[], page_timeline[];

/* Writes the page with what `print_data` prints, a JavaScript expression, in its place. -1: it could not be written. */
int page_write(FILE *out, const char *page, void (*print_data)(FILE *out, const void *data), const void *data);

#endif
