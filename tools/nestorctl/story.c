/* From records to slices: which level each processor ran when, and what happened meanwhile. */
#include <stdbool.h>
#include <stddef.h>

#include "kernel/trace.h"
#include "tools/nestorctl/capture.h"
#include "tools/nestorctl/commands.h"

struct teller {
    void (*hear)(void *context, const struct story_event *event);
    void *context;
    uint32_t cpu;
    bool open[3]; /* slices by level */
};

static void begin(struct teller *teller, uint32_t level, struct story_event event)
{
    event.kind = STORY_BEGIN;
    event.cpu = teller->cpu;
    event.level = level;
    teller->open[level] = true;
    teller->hear(teller->context, &event);
}

static void end(struct teller *teller, uint32_t level, uint64_t ns)
{
    const struct story_event event = {.kind = STORY_END, .cpu = teller->cpu, .level = level, .ns = ns};
    if (teller->open[level])
        teller->hear(teller->context, &event);
    teller->open[level] = false;
}

static void end_all(struct teller *teller, uint64_t ns)
{
    for (uint32_t level = 0; level < 3; level++)
        end(teller, level, ns);
}

static void on_exit_of(struct teller *teller, uint32_t level, uint64_t ns, const struct inspect_record *record)
{
    end_all(teller, ns);
    begin(teller, 0,
          (struct story_event){.ns = ns,
                               .name = sample_reason_name(record->a),
                               .detail = {level == 2 ? "rip of L2" : "rip of L1", "exit reason"},
                               .value = {record->b, record->a}});
}

static void on_enter(struct teller *teller, uint32_t level, uint64_t ns)
{
    if (teller->open[level])
        return;
    end_all(teller, ns);
    begin(teller, level, (struct story_event){.ns = ns, .name = level == 2 ? "L2" : "L1"});
}

static void on_event(struct teller *teller, const char *name, uint64_t ns, const struct inspect_record *record)
{
    const struct story_event event = {.kind = STORY_INSTANT,
                                      .cpu = teller->cpu,
                                      .ns = ns,
                                      .name = name,
                                      .detail = {"a", "b"},
                                      .value = {record->a, record->b}};
    teller->hear(teller->context, &event);
}

static void tell_record(struct teller *teller, const struct inspect_record *record, uint64_t ns)
{
    switch (record->type) {
    case TRACE_EXIT_L1:
    case TRACE_EXIT_L2:
        on_exit_of(teller, record->type == TRACE_EXIT_L2 ? 2 : 1, ns, record);
        break;
    case TRACE_ENTER_L1:
    case TRACE_ENTER_L2:
        on_enter(teller, record->type == TRACE_ENTER_L2 ? 2 : 1, ns);
        break;
    case TRACE_INJECT:
        on_event(teller, "event injected", ns, record);
        break;
    case TRACE_WATCH:
        on_event(teller, "store to a traced page", ns, record);
        break;
    case TRACE_MERGE:
        on_event(teller, "MSR bitmap merged", ns, record);
        break;
    case TRACE_KICK:
        on_event(teller, "processor kicked", ns, record);
        break;
    default:
        on_event(teller, "unknown record", ns, record);
    }
}

void story_tell(const struct capture *capture, void (*hear)(void *context, const struct story_event *event),
                void *context)
{
    for (uint32_t i = 0; i < capture->cpus; i++) {
        const struct capture_cpu *cpu = &capture->cpu[i];
        struct teller teller = {.hear = hear, .context = context, .cpu = i};
        uint64_t ns = 0;
        for (uint64_t at = 0; at < cpu->count; at++) {
            ns = capture_ns(capture, cpu->record[at].tsc);
            tell_record(&teller, &cpu->record[at], ns);
        }
        end_all(&teller, ns);
    }
}
