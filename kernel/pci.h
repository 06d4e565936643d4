/* Where a PCI device's memory lies, as its base address register says: L1 may move the one with the screen.
 * Through the configuration ports CF8H and CFCH, whose state is put back: L1 may be between two accesses of its own.
 * kernel/log.c uses it. */
#ifndef KERNEL_PCI_H
#define KERNEL_PCI_H

#include "kernel/base.h"

/* One base address register, and an address in what it opens. */
struct pci_place {
    bool known;
    uint32_t function; /* bus, device and function as CF8H wants them */
    uint8_t reg;       /* of the register, a multiple of 4 */
    uint64_t offset;
};

/* The register behind which `address` lies now; known is false when there is none. */
struct pci_place pci_find(hpa_t address);
/* Where that is now; 0 when the device decodes no memory. */
hpa_t pci_where(const struct pci_place *place);

#endif
