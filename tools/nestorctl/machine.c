#include "tools/nestorctl/machine.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *root(void)
{
    const char *folder = getenv("NESTORCTL_ROOT");
    return folder ? folder : "";
}

const char *machine_path(const char *fmt, ...)
{
    static char path[MACHINE_PATH];
    va_list args;

    int used = snprintf(path, sizeof path, "%s", root());
    va_start(args, fmt);
    if (used >= 0 && used < (int)sizeof path)
        vsnprintf(path + used, sizeof path - (size_t)used, fmt, args);
    va_end(args);
    return path;
}

bool machine_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

char *machine_read(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    size_t used = 0, room = 4096;
    char *text = file ? malloc(room + 1) : NULL;

    while (text) {
        size_t got = fread(text + used, 1, room - used, file);
        used += got;
        if (used < room)
            break;
        char *larger = realloc(text, 2 * room + 1);
        if (!larger)
            free(text);
        text = larger;
        room *= 2;
    }
    if (file)
        fclose(file);
    if (text)
        text[used] = 0;
    if (size)
        *size = text ? used : 0;
    return text;
}

/* "0-3,8,10-11" */
unsigned machine_processors(unsigned *number, unsigned room)
{
    char *text = machine_read(machine_path("/sys/devices/system/cpu/online"), NULL);
    unsigned count = 0;

    for (char *at = text; at && *at >= '0' && *at <= '9';) {
        unsigned long first = strtoul(at, &at, 10), last = first;
        if (*at == '-')
            last = strtoul(at + 1, &at, 10);
        for (unsigned long i = first; i <= last && count < room; i++)
            number[count++] = (unsigned)i;
        at += *at == ',';
    }
    free(text);
    return count;
}

static bool recorded_msr(const char *path, uint32_t msr, uint64_t *value)
{
    char *text = machine_read(path, NULL), *line = text;
    bool found = false;

    while (line && *line && !found) {
        char *end;
        found = strtoul(line, &end, 16) == msr && end != line;
        if (found)
            *value = strtoull(end, NULL, 16);
        line = strchr(line, '\n');
        line += line != NULL;
    }
    free(text);
    return found;
}

bool machine_msr(unsigned processor, uint32_t msr, uint64_t *value)
{
    const char *path = machine_path("/dev/cpu/%u/msr", processor);

    if (*root())
        return recorded_msr(path, msr, value);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool got = fd >= 0 && pread(fd, value, sizeof *value, msr) == sizeof *value;
    if (fd >= 0)
        close(fd);
    return got;
}

/* A block of lines for each processor, an empty line behind it. */
char *machine_cpuinfo(unsigned processor, const char *key)
{
    char *text = machine_read(machine_path("/proc/cpuinfo"), NULL), *found = NULL;
    bool ours = false;

    for (char *line = strtok(text ? text : (char[]){""}, "\n"); line && !found; line = strtok(NULL, "\n")) {
        char *colon = strchr(line, ':');
        if (!colon)
            continue;
        if (!strncmp(line, "processor", 9))
            ours = strtoul(colon + 1, NULL, 10) == processor;
        size_t length = strlen(key);
        if (ours && !strncmp(line, key, length) && strchr("\t :", line[length]))
            found = strdup(colon[1] == ' ' ? colon + 2 : colon + 1);
    }
    free(text);
    return found;
}

bool machine_has_word(const char *text, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = text; at && (at = strstr(at, word)) != NULL; at += length)
        if ((at == text || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0 || at[length] == '\n'))
            return true;
    return false;
}
