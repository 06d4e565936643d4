/* The part of UEFI 2.10 and of the PI specification that nestor.efi uses: tables have their other members as holes.
 * Types only.
 * efi/ alone includes it. */
#ifndef EFI_UEFI_H
#define EFI_UEFI_H

#include "kernel/base.h"

#define EFIAPI __attribute__((ms_abi))

typedef uint64_t efi_status;
typedef void *efi_handle;
typedef uint16_t efi_char; /* UCS-2 */

#define EFI_ERROR_BIT (1ull << 63)
#define EFI_SUCCESS 0ull
#define EFI_LOAD_ERROR (EFI_ERROR_BIT | 1)
#define EFI_INVALID_PARAMETER (EFI_ERROR_BIT | 2)
#define EFI_UNSUPPORTED (EFI_ERROR_BIT | 3)
#define EFI_BUFFER_TOO_SMALL (EFI_ERROR_BIT | 5)
#define EFI_OUT_OF_RESOURCES (EFI_ERROR_BIT | 9)
#define EFI_NOT_STARTED (EFI_ERROR_BIT | 19)
#define EFI_ALREADY_STARTED (EFI_ERROR_BIT | 20)

struct efi_guid {
    uint32_t a;
    uint16_t b, c;
    uint8_t d[8];
};

enum efi_allocate { EFI_ALLOCATE_ANY, EFI_ALLOCATE_MAX_ADDRESS };

/* 4.3, 4.6 */
struct efi_configuration_table {
    struct efi_guid guid;
    uint64_t table;
};

struct efi_text_output {
    void *reset;
    efi_status(EFIAPI *output_string)(struct efi_text_output *self, const efi_char *text);
};

/* 4.4 "EFI Boot Services Table" */
struct efi_boot_services {
    uint8_t header[24];
    void *raise_tpl, *restore_tpl;
    efi_status(EFIAPI *allocate_pages)(enum efi_allocate type, uint32_t memory_type, uint64_t pages, uint64_t *address);
    efi_status(EFIAPI *free_pages)(uint64_t address, uint64_t pages);
    efi_status(EFIAPI *get_memory_map)(uint64_t *size, void *map, uint64_t *key, uint64_t *descriptor_size,
                                       uint32_t *version);
    void *allocate_pool, *free_pool;
    void *create_event, *set_timer, *wait_for_event, *signal_event, *close_event, *check_event;
    efi_status(EFIAPI *install_protocol)(efi_handle *handle, const struct efi_guid *guid, unsigned type,
                                         void *interface);
    void *reinstall_protocol, *uninstall_protocol;
    efi_status(EFIAPI *handle_protocol)(efi_handle handle, const struct efi_guid *guid, void **interface);
    void *reserved, *register_protocol_notify, *locate_handle, *locate_device_path, *install_configuration_table;
    void *load_image, *start_image, *exit, *unload_image, *exit_boot_services;
    void *get_next_count, *stall, *set_watchdog_timer;
    void *connect_controller, *disconnect_controller;
    void *open_protocol, *close_protocol, *open_protocol_information;
    void *protocols_per_handle, *locate_handle_buffer;
    efi_status(EFIAPI *locate_protocol)(const struct efi_guid *guid, void *registration, void **interface);
};

/* 4.3 "EFI System Table" */
struct efi_system_table {
    uint8_t header[24];
    void *vendor;
    uint64_t revision;
    efi_handle in_handle;
    void *in;
    efi_handle out_handle;
    struct efi_text_output *out;
    efi_handle error_handle;
    void *error;
    void *runtime_services;
    struct efi_boot_services *boot;
    uint64_t tables;
    const struct efi_configuration_table *table;
};
_Static_assert(offsetof(struct efi_system_table, boot) == 96, "UEFI 2.10 4.3");
_Static_assert(offsetof(struct efi_boot_services, locate_protocol) == 24 + 37 * 8, "UEFI 2.10 4.4");

/* 9.1 "EFI Loaded Image Protocol", 10.3 "Device Path Nodes" */
struct efi_device_path {
    uint8_t type, subtype, length[2];
};
#define EFI_PATH_MEDIA 4
#define EFI_PATH_FILE 4
#define EFI_PATH_END 0x7f

struct efi_loaded_image {
    uint64_t revision;
    efi_handle parent;
    struct efi_system_table *system;
    efi_handle device;
    const struct efi_device_path *path;
    void *reserved;
    uint32_t options_size;
    const efi_char *options;
};

/* 13.4 "Simple File System Protocol", 13.5 "File Protocol" */
struct efi_file {
    uint64_t revision;
    efi_status(EFIAPI *open)(struct efi_file *self, struct efi_file **opened, const efi_char *name, uint64_t mode,
                             uint64_t attributes);
    efi_status(EFIAPI *close)(struct efi_file *self);
    void *delete;
    efi_status(EFIAPI *read)(struct efi_file *self, uint64_t *size, void *buffer);
};
#define EFI_FILE_READ 1ull

struct efi_file_system {
    uint64_t revision;
    efi_status(EFIAPI *open_volume)(struct efi_file_system *self, struct efi_file **root);
};

/* PI 1.7 volume 2, 13.4 "MP Services Protocol" */
struct efi_mp_services {
    efi_status(EFIAPI *count)(struct efi_mp_services *self, uint64_t *all, uint64_t *enabled);
    void *information;
    efi_status(EFIAPI *start_all)(struct efi_mp_services *self, void(EFIAPI *procedure)(void *argument),
                                  bool one_by_one, void *event, uint64_t microseconds, void *argument, void **failed);
};

#endif
