/* Perfetto's trace format: protobuf messages of protos/perfetto/trace, here by the numbers of their fields. */
#include <stdlib.h>
#include <string.h>

#include "tools/nestorctl/capture.h"

enum { TRACE_PACKET = 1 };
enum {
    PACKET_TIMESTAMP = 8,
    PACKET_SEQUENCE_ID = 10,
    PACKET_TRACK_EVENT = 11,
    PACKET_SEQUENCE_FLAGS = 13,
    PACKET_TRACK_DESCRIPTOR = 60
};
enum { DESCRIPTOR_UUID = 1, DESCRIPTOR_NAME = 2, DESCRIPTOR_PARENT = 5 };
enum { EVENT_ANNOTATIONS = 4, EVENT_TYPE = 9, EVENT_TRACK = 11, EVENT_NAME = 23 };
enum { ANNOTATION_UINT = 3, ANNOTATION_POINTER = 7, ANNOTATION_NAME = 10 };
enum { SLICE_BEGIN = 1, SLICE_END = 2, INSTANT = 3 };
#define SEQUENCE 1
#define SEQUENCE_CLEARED 1 /* SEQ_INCREMENTAL_STATE_CLEARED */

#define MESSAGE_MAX 512 /* names are of this program: all messages are shorter */
struct message {
    size_t size;
    uint8_t bytes[MESSAGE_MAX];
};

static void put_varint(struct message *m, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        m->bytes[m->size++] = (uint8_t)(value | 0x80);
    m->bytes[m->size++] = (uint8_t)value;
}

static void put_number(struct message *m, unsigned field, uint64_t value)
{
    put_varint(m, field << 3);
    put_varint(m, value);
}

static void put_bytes(struct message *m, unsigned field, const void *bytes, size_t size)
{
    put_varint(m, field << 3 | 2);
    put_varint(m, size);
    memcpy(m->bytes + m->size, bytes, size);
    m->size += size;
}

static void put_text(struct message *m, unsigned field, const char *text)
{
    put_bytes(m, field, text, strlen(text));
}

static void put_message(struct message *m, unsigned field, const struct message *inner)
{
    put_bytes(m, field, inner->bytes, inner->size);
}

static void write_packet(FILE *file, const struct message *packet)
{
    struct message head = {0};
    put_varint(&head, TRACE_PACKET << 3 | 2);
    put_varint(&head, packet->size);
    fwrite(head.bytes, 1, head.size, file);
    fwrite(packet->bytes, 1, packet->size, file);
}

/* A processor's track is the parent of those of its levels. */
static uint64_t cpu_track(uint32_t cpu)
{
    return 0x6e657374ull << 32 | (cpu + 1) * 4u;
}

static uint64_t level_track(uint32_t cpu, uint32_t level)
{
    return cpu_track(cpu) + 1 + level;
}

static void describe(FILE *file, uint64_t uuid, uint64_t parent, const char *name)
{
    struct message descriptor = {0}, packet = {0};
    put_number(&descriptor, DESCRIPTOR_UUID, uuid);
    put_text(&descriptor, DESCRIPTOR_NAME, name);
    if (parent)
        put_number(&descriptor, DESCRIPTOR_PARENT, parent);
    put_number(&packet, PACKET_SEQUENCE_ID, SEQUENCE);
    put_message(&packet, PACKET_TRACK_DESCRIPTOR, &descriptor);
    write_packet(file, &packet);
}

static void annotate(struct message *event, const char *name, uint64_t value)
{
    struct message annotation = {0};
    put_text(&annotation, ANNOTATION_NAME, name);
    put_number(&annotation, value >> 32 ? ANNOTATION_POINTER : ANNOTATION_UINT, value);
    put_message(event, EVENT_ANNOTATIONS, &annotation);
}

static void hear(void *context, const struct story_event *heard)
{
    static const unsigned types[] = {[STORY_BEGIN] = SLICE_BEGIN, [STORY_END] = SLICE_END, [STORY_INSTANT] = INSTANT};
    struct message event = {0}, packet = {0};

    put_number(&event, EVENT_TYPE, types[heard->kind]);
    put_number(&event, EVENT_TRACK, level_track(heard->cpu, heard->level));
    if (heard->name)
        put_text(&event, EVENT_NAME, heard->name);
    for (unsigned i = 0; i < 2; i++)
        if (heard->detail[i])
            annotate(&event, heard->detail[i], heard->value[i]);
    put_number(&packet, PACKET_TIMESTAMP, heard->ns);
    put_number(&packet, PACKET_SEQUENCE_ID, SEQUENCE);
    put_message(&packet, PACKET_TRACK_EVENT, &event);
    write_packet(context, &packet);
}

int perfetto_write(const struct capture *capture, FILE *file)
{
    struct message start = {0};
    char name[32];

    put_number(&start, PACKET_SEQUENCE_ID, SEQUENCE);
    put_number(&start, PACKET_SEQUENCE_FLAGS, SEQUENCE_CLEARED);
    write_packet(file, &start);
    for (uint32_t cpu = 0; cpu < capture->cpus; cpu++) {
        snprintf(name, sizeof name, "processor %u", cpu);
        describe(file, cpu_track(cpu), 0, name);
        for (uint32_t level = 0; level < 3; level++) {
            snprintf(name, sizeof name, level ? "L%u of processor %u" : "L%u (Nestor) of processor %u", level, cpu);
            describe(file, level_track(cpu, level), cpu_track(cpu), name);
        }
    }
    story_tell(capture, hear, file);
    return ferror(file) ? -1 : 0;
}
