/* The JSON of Chrome's trace viewer: processors are its processes, levels its threads. And the page that draws it. */
#include <inttypes.h>
#include <stdbool.h>

#include "tools/nestorctl/capture.h"
#include "tools/nestorctl/page.h"

struct writer {
    FILE *file;
    bool more; /* an event came before */
};

static void separate(struct writer *writer)
{
    fputs(writer->more ? ",\n" : "\n", writer->file);
    writer->more = true;
}

static void hear(void *context, const struct story_event *heard)
{
    static const char *const phases[] = {[STORY_BEGIN] = "B", [STORY_END] = "E", [STORY_INSTANT] = "i"};
    struct writer *writer = context;

    separate(writer);
    fprintf(writer->file, "{\"ph\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%" PRIu64 ".%03" PRIu64, phases[heard->kind],
            heard->cpu, heard->level, heard->ns / 1000, heard->ns % 1000);
    if (heard->kind == STORY_INSTANT)
        fputs(",\"s\":\"t\"", writer->file);
    if (heard->name)
        fprintf(writer->file, ",\"name\":\"%s\"", heard->name);
    if (heard->detail[0])
        fprintf(writer->file, ",\"args\":{\"%s\":\"%#" PRIx64 "\",\"%s\":\"%#" PRIx64 "\"}", heard->detail[0],
                heard->value[0], heard->detail[1], heard->value[1]);
    fputc('}', writer->file);
}

static void name_track(struct writer *writer, const char *what, uint32_t cpu, uint32_t level, const char *name)
{
    separate(writer);
    fprintf(writer->file, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":\"%s\"}}", what, cpu,
            level, name);
}

int chrome_write(const struct capture *capture, FILE *file)
{
    static const char *const levels[] = {"L0 (Nestor)", "L1", "L2"};
    struct writer writer = {.file = file};
    char name[32];

    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", file);
    for (uint32_t cpu = 0; cpu < capture->cpus; cpu++) {
        snprintf(name, sizeof name, "processor %u", cpu);
        name_track(&writer, "process_name", cpu, 0, name);
        for (uint32_t level = 0; level < 3; level++)
            name_track(&writer, "thread_name", cpu, level, levels[level]);
    }
    story_tell(capture, hear, &writer);
    fputs("\n]}\n", file);
    return ferror(file) ? -1 : 0;
}

static void print_data(FILE *file, const void *capture)
{
    chrome_write(capture, file);
}

int timeline_write(const struct capture *capture, FILE *file)
{
    return page_write(file, page_timeline, print_data, capture);
}
