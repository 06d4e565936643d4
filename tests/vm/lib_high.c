/* A UEFI application that moves the framebuffer above 4 GiB, where many real machines have it, for tests/vm/uefi.t:
 * QEMU's ramfb shows the RAM that its driver's mode names, and takes the address anew when a loader sets a mode. */
#include "boot/efi_map.h"
#include "efi/uefi.h"

#define ALLOCATE_ADDRESS 2
#define BY_PROTOCOL 2
#define PLACE (5ull << 30)
#define PAGES 4096 /* 16 MiB */
#define HANDLES 16

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system);

/* UEFI 2.10 12.9.2 */
struct graphics_output {
    void *query_mode, *set_mode, *blt;
    struct {
        uint32_t modes, mode;
        void *info;
        uint64_t info_size, framebuffer, framebuffer_size;
    } *mode;
};
typedef efi_status(EFIAPI *locate_handle_fn)(unsigned type, const struct efi_guid *guid, void *key, uint64_t *size,
                                             efi_handle *handles);

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system)
{
    const struct efi_guid guid = {0x9042a9de, 0x23dc, 0x4a38, {0x96, 0xfb, 0x7a, 0xde, 0xd0, 0x80, 0x51, 0x6a}};
    locate_handle_fn locate = (locate_handle_fn)system->boot->locate_handle;
    efi_handle handles[HANDLES];
    struct graphics_output *screen;
    uint64_t size = sizeof handles, place = PLACE;

    (void)handle;
    if (system->boot->allocate_pages(ALLOCATE_ADDRESS, EFI_RESERVED, PAGES, &place) ||
        locate(BY_PROTOCOL, &guid, NULL, &size, handles))
        return EFI_OUT_OF_RESOURCES;
    for (uint64_t i = 0; i < size / sizeof *handles; i++)
        if (!system->boot->handle_protocol(handles[i], &guid, (void **)&screen))
            screen->mode->framebuffer = place;
    return EFI_SUCCESS;
}
