/* Nestor's options for nestor.efi: what stands in nestor.txt beside it, then its load options, which so count more.
 * Boot services are there.
 * efi/main calls it. */
#ifndef EFI_OPTIONS_H
#define EFI_OPTIONS_H

#include "efi/uefi.h"

#define OPTIONS_MAX 2048

/* One line of words into words[OPTIONS_MAX], which is all 0. */
void options_read(struct efi_system_table *system, efi_handle image, char *words);

#endif
