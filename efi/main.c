/* nestor.efi: Nestor's image inside a UEFI application, which starts it under the firmware and returns to the firmware
 * as L1. All of it runs where the firmware loaded it, and nothing in it needs relocation.
 * Called by the firmware. */
#include "boot/efi_map.h"
#include "boot/in_place.h"
#include "efi/options.h"
#include "efi/present.h"
#include "efi/uefi.h"

#define FOUR_GIB_LAST 0xffffffffull
#define LARGE_PAGE (2ull << 20)
#define INFORMATION_PAGES 32 /* the memory map among it */

/* Multiboot2 specification 3.6 */
enum { TAG_END = 0, TAG_COMMAND_LINE = 1, TAG_EFI64 = 12, TAG_RSDP_NEW = 15, TAG_EFI_MAP = 17 };
#define RSDP_SIZE 36

/* The image as it is loaded, by mk/efi.mk; its addresses, by the link with it. */
/* Hidden: reached from the instruction pointer on, not by an address. */
extern const uint8_t nestor_image[] __attribute__((visibility("hidden")));
extern const uint8_t nestor_image_end[] __attribute__((visibility("hidden")));
typedef enum in_place_result (*enter_fn)(struct in_place *in_place, uint64_t load_base);
typedef enum in_place_result (*join_fn)(struct in_place_processor *processor);

/* Symbols of Nestor's image are numbers here. */
#define IMAGE_ADDRESS(name)                                                                                            \
    ({                                                                                                                 \
        uint64_t address_;                                                                                             \
        __asm__("movabs $" #name ", %0" : "=r"(address_));                                                             \
        address_;                                                                                                      \
    })
#define LOADED(name, base) (IMAGE_ADDRESS(name) - LOAD_BASE + (base))
#define LOAD_BASE IMAGE_ADDRESS(IMAGE_LOAD_BASE)
#define IMAGE_SIZE (IMAGE_ADDRESS(image_end) - IMAGE_ADDRESS(IMAGE_LINK_BASE))

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system);

/* Everything that has been taken from the firmware. */
struct taken {
    uint64_t image, image_pages, in_place, in_place_pages, carveout, carveout_pages;
    bool try_next; /* not taken: the option then= */
};

static void say(const struct efi_system_table *system, const char *text)
{
    efi_char line[200];
    unsigned length = 0;

    if (!system->out)
        return;
    for (; *text && length < ARRAY_SIZE(line) - 3; text++)
        line[length++] = (uint8_t)*text;
    line[length++] = '\r';
    line[length++] = '\n';
    line[length] = 0;
    system->out->output_string(system->out, line);
}

static bool same_guid(const struct efi_guid *a, const struct efi_guid *b)
{
    const uint64_t *x = (const void *)a, *y = (const void *)b;
    return x[0] == y[0] && x[1] == y[1];
}

static const uint8_t *find_rsdp(const struct efi_system_table *system)
{
    const struct efi_guid acpi_20 = {0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}};

    for (uint64_t i = 0; i < system->tables; i++)
        if (same_guid(&system->table[i].guid, &acpi_20))
            return (const uint8_t *)system->table[i].table;
    return NULL;
}

/* Of memory below 4 GiB, on a border of 2 MiB if `aligned`. 0: there is none. */
static uint64_t allocate(const struct efi_boot_services *boot, uint32_t type, uint64_t pages, bool aligned,
                         uint64_t limit)
{
    uint64_t base = limit, spare = aligned ? LARGE_PAGE / EFI_PAGE : 0;

    if (boot->allocate_pages(limit ? EFI_ALLOCATE_MAX_ADDRESS : EFI_ALLOCATE_ANY, type, pages + spare, &base))
        return 0;
    uint64_t at = aligned ? ALIGN_UP(base, LARGE_PAGE) : base, before = (at - base) / EFI_PAGE;
    if (before)
        boot->free_pages(base, before);
    if (spare - before)
        boot->free_pages(at + pages * EFI_PAGE, spare - before);
    return at;
}

/* --- The boot information, as a multiboot2 loader would give it --- */

static uint8_t *add_tag(uint8_t *at, uint32_t type, uint32_t body)
{
    uint32_t *head = (uint32_t *)at;
    head[0] = type;
    head[1] = body + 8;
    return at + 8;
}

static uint8_t *next_tag(uint8_t *body, uint64_t size)
{
    return body + ALIGN_UP(size, 8);
}

static void copy(void *to, const void *from, uint64_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static void clear(void *to, uint64_t size)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(0) : "memory");
}

static efi_status add_map(const struct efi_boot_services *boot, uint8_t **at, const uint8_t *end)
{
    uint8_t *body = *at + 8;
    uint64_t size = (uint64_t)(end - body) - 64, key, step;
    uint32_t version;
    efi_status status = boot->get_memory_map(&size, body + 8, &key, &step, &version);

    if (status)
        return status;
    add_tag(*at, TAG_EFI_MAP, (uint32_t)size + 8);
    ((uint32_t *)body)[0] = (uint32_t)step;
    ((uint32_t *)body)[1] = version;
    *at = next_tag(body, size + 8);
    return EFI_SUCCESS;
}

/* `words`: Nestor's options. */
static efi_status tell(struct efi_system_table *system, const char *words, uint8_t *block, uint64_t room)
{
    uint8_t *at = block + 8, *body;
    uint32_t length = 0;
    const uint8_t *rsdp = find_rsdp(system);

    while (words[length])
        length++;
    body = add_tag(at, TAG_COMMAND_LINE, length + 1);
    copy(body, words, length + 1);
    at = next_tag(body, length + 1);
    body = add_tag(at, TAG_EFI64, 8);
    *(uint64_t *)body = (uint64_t)system;
    at = next_tag(body, 8);
    if (rsdp) {
        body = add_tag(at, TAG_RSDP_NEW, RSDP_SIZE);
        copy(body, rsdp, RSDP_SIZE);
        at = next_tag(body, RSDP_SIZE);
    }
    efi_status status = add_map(system->boot, &at, block + room);
    if (status)
        return status;
    at = add_tag(at, TAG_END, 0);
    ((uint32_t *)block)[0] = (uint32_t)(at - block);
    return EFI_SUCCESS;
}

/* --- The start --- */

static void give_back(const struct efi_boot_services *boot, const struct taken *taken, bool is_l1)
{
    if (taken->image)
        boot->free_pages(taken->image, taken->image_pages);
    if (taken->in_place)
        boot->free_pages(taken->in_place, taken->in_place_pages);
    if (taken->carveout && !is_l1)
        boot->free_pages(taken->carveout, taken->carveout_pages);
}

/* Calls a fresh copy of the image. */
static enum in_place_result call(struct in_place *in_place, uint64_t image)
{
    uint64_t length = (uint64_t)(nestor_image_end - nestor_image);
    enter_fn enter = (enter_fn)LOADED(in_place_enter, image);

    copy((void *)image, nestor_image, length);
    clear((void *)(image + length), IMAGE_SIZE - length);
    in_place->load_base = image;
    present_read(&in_place->processor[0].state);
    return enter(in_place, image);
}

/* --- All processors --- */

static enum in_place_result join(struct in_place *in_place, uint64_t number)
{
    struct in_place_processor *processor = &in_place->processor[number];
    join_fn way = (join_fn)LOADED(in_place_join, in_place->load_base);

    present_read(&processor->state);
    return way(processor);
}

/* Of each processor but the one that boots. */
static void EFIAPI join_other(void *argument)
{
    struct in_place *in_place = argument;
    uint64_t number = __atomic_add_fetch(&in_place->joined, 1, __ATOMIC_SEQ_CST);

    if (number >= in_place->processors || join(in_place, number) == IN_PLACE_REFUSED)
        __atomic_store_n(&in_place->failed, true, __ATOMIC_SEQ_CST);
}

/* NULL: there is one processor. */
static struct efi_mp_services *find_processors(const struct efi_boot_services *boot, struct in_place *in_place)
{
    const struct efi_guid guid = {0x3fdda605, 0xa76e, 0x4f46, {0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08}};
    struct efi_mp_services *services = NULL;
    uint64_t all;

    in_place->processors = 1;
    if (boot->locate_protocol(&guid, NULL, (void **)&services) ||
        services->count(services, &all, &in_place->processors) || in_place->processors < 2)
        return NULL;
    return services;
}

/* From the first round to the last: NULL, or what was in the way. */
static const char *join_all(struct efi_mp_services *services, struct in_place *in_place)
{
    enum in_place_result result = IN_PLACE_JOIN;

    while (result == IN_PLACE_JOIN) {
        in_place->joined = 0;
        if (services && services->start_all(services, join_other, in_place->one_by_one, NULL, 0, in_place, NULL))
            return "the firmware cannot run all of its processors";
        if (in_place->failed)
            return in_place->reason;
        result = join(in_place, 0);
    }
    return result == IN_PLACE_IS_L1 ? NULL : in_place->reason;
}

static efi_status start(struct efi_system_table *system, const char *words, struct taken *taken, const char **reason)
{
    const struct efi_boot_services *boot = system->boot;
    enum in_place_result result = IN_PLACE_WANTS;
    struct in_place *in_place;

    taken->image_pages = ALIGN_UP(IMAGE_SIZE, EFI_PAGE) / EFI_PAGE;
    taken->image = allocate(boot, EFI_LOADER_CODE, taken->image_pages, true, FOUR_GIB_LAST);
    taken->in_place_pages = ALIGN_UP(sizeof *in_place, EFI_PAGE) / EFI_PAGE + INFORMATION_PAGES;
    taken->in_place = allocate(boot, EFI_LOADER_DATA, taken->in_place_pages, false, FOUR_GIB_LAST);
    if (!taken->image || !taken->in_place)
        return EFI_OUT_OF_RESOURCES;
    in_place = (struct in_place *)taken->in_place;
    clear(in_place, taken->in_place_pages * EFI_PAGE);
    in_place->boot_information = taken->in_place + (taken->in_place_pages - INFORMATION_PAGES) * EFI_PAGE;
    struct efi_mp_services *services = find_processors(boot, in_place);
    if (in_place->processors > IN_PLACE_PROCESSORS)
        return EFI_OUT_OF_RESOURCES;
    while (result == IN_PLACE_WANTS) {
        uint8_t *block = (uint8_t *)in_place->boot_information;
        efi_status status = tell(system, words, block, INFORMATION_PAGES * EFI_PAGE);
        if (status)
            return status;
        result = call(in_place, taken->image);
        if (result != IN_PLACE_WANTS)
            break;
        taken->carveout_pages = in_place->carveout_size / EFI_PAGE;
        taken->carveout = allocate(boot, EFI_RESERVED, taken->carveout_pages, true, FOUR_GIB_LAST);
        if (!taken->carveout)
            taken->carveout = allocate(boot, EFI_RESERVED, taken->carveout_pages, true, 0);
        if (!taken->carveout) {
            *reason = "too little memory: no piece is as large as Nestor's (the option memory= changes that)";
            return EFI_OUT_OF_RESOURCES;
        }
        in_place->carveout_base = taken->carveout;
    }
    *reason = result == IN_PLACE_JOIN ? join_all(services, in_place) : in_place->reason;
    taken->try_next = in_place->try_next;
    return *reason ? EFI_UNSUPPORTED : EFI_SUCCESS;
}

/* The mark that a second start finds. */
static const struct efi_guid *own_guid(void)
{
    static const struct efi_guid guid = {0x4e657374, 0x6f72, 0x4c31, {0x9d, 0x0f, 0x1b, 0x3c, 0x53, 0x76, 0x10, 0x01}};
    return &guid;
}

/* Why the image must not even be called. */
static const char *obstacle(const struct efi_system_table *system)
{
    void *interface;

    return system->boot->locate_protocol(own_guid(), NULL, &interface) ? NULL : "this machine is already under Nestor";
}

static void say_why(const struct efi_system_table *system, const char *why)
{
    char line[190] = "nestor: not started: ";
    unsigned at = 0;

    while (line[at])
        at++;
    while (*why && at < sizeof line - 1)
        line[at++] = *why++;
    line[at] = 0;
    say(system, line);
}

efi_status EFIAPI efi_main(efi_handle handle, struct efi_system_table *system)
{
    static char words[OPTIONS_MAX];
    struct taken taken = {0};
    const char *reason = obstacle(system);
    efi_handle own = NULL;

    if (reason) {
        say_why(system, reason);
        return EFI_ALREADY_STARTED;
    }
    options_read(system, handle, words);
    reason = "the firmware has no memory for it";
    efi_status status = start(system, words, &taken, &reason);
    if (status)
        say_why(system, reason);
    give_back(system->boot, &taken, !status);
    if (status)
        return status;
    system->boot->install_protocol(&own, own_guid(), 0, NULL);
    say(system, "nestor: this system goes on as L1 of Nestor");
    return taken.try_next ? EFI_NOT_STARTED : EFI_SUCCESS; /* UEFI 2.10 3.1.1: after success there is a menu */
}
