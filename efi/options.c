#include "efi/options.h"

#define NAME_MAX 512

static const efi_char own_name[] = u"nestor.txt";

static bool is_word(unsigned c)
{
    return c > ' ' && c < 0x7f;
}

static unsigned length_of(const char *words)
{
    unsigned length = 0;

    while (words[length])
        length++;
    return length;
}

/* Line ends and the like become spaces. */
static void add(char *words, unsigned c)
{
    unsigned length = length_of(words);

    if (length < OPTIONS_MAX - 1)
        words[length] = is_word(c) ? (char)c : ' ';
}

/* --- The file beside the image --- */

static const struct efi_device_path *next_node(const struct efi_device_path *node)
{
    return (const void *)((const uint8_t *)node + (node->length[0] | node->length[1] << 8));
}

/* The image's own path, with another name at its end. */
static void beside(const struct efi_loaded_image *image, efi_char *name)
{
    unsigned length = 0, folder = 0;

    for (const struct efi_device_path *node = image->path; node && node->type != EFI_PATH_END; node = next_node(node)) {
        if (node->type != EFI_PATH_MEDIA || node->subtype != EFI_PATH_FILE)
            continue;
        for (const efi_char *c = (const efi_char *)(node + 1); *c && length < NAME_MAX - 32; c++)
            name[length++] = *c;
    }
    for (unsigned i = 0; i < length; i++)
        if (name[i] == '\\')
            folder = i + 1;
    if (!folder)
        name[folder++] = '\\';
    for (unsigned i = 0; i < ARRAY_SIZE(own_name); i++)
        name[folder + i] = own_name[i];
}

static void read_file(const struct efi_system_table *system, const struct efi_loaded_image *image, char *words)
{
    const struct efi_guid guid = {0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    struct efi_file_system *files;
    struct efi_file *root, *file;
    efi_char name[NAME_MAX];
    char text[OPTIONS_MAX / 2];
    uint64_t size = sizeof text;

    if (system->boot->handle_protocol(image->device, &guid, (void **)&files) || files->open_volume(files, &root))
        return;
    beside(image, name);
    if (!root->open(root, &file, name, EFI_FILE_READ, 0)) {
        if (!file->read(file, &size, text))
            for (uint64_t i = 0; i < size; i++)
                add(words, (uint8_t)text[i]);
        add(words, ' ');
        file->close(file);
    }
    root->close(root);
}

/* --- The load options --- */

/* The shell puts the program's own name first. */
static bool is_own_name(const efi_char *word, unsigned length)
{
    return length > 4 && word[length - 4] == '.' && (word[length - 3] | 0x20) == 'e' &&
           (word[length - 2] | 0x20) == 'f' && (word[length - 1] | 0x20) == 'i';
}

/* Others' options may be anything: what is no line of words is none of ours. */
static void read_load_options(const struct efi_loaded_image *image, char *words)
{
    const efi_char *text = image->options;
    unsigned length = 0, first = 0;

    while (text && length < image->options_size / sizeof *text && text[length]) {
        if (!is_word(text[length]) && text[length] != ' ')
            return;
        length++;
    }
    while (first < length && text[first] != ' ')
        first++;
    for (unsigned i = is_own_name(text, first) ? first : 0; i < length; i++)
        add(words, text[i]);
}

void options_read(struct efi_system_table *system, efi_handle handle, char *words)
{
    const struct efi_guid guid = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
    struct efi_loaded_image *image;

    if (system->boot->handle_protocol(handle, &guid, (void **)&image))
        return;
    read_file(system, image, words);
    read_load_options(image, words);
}
