/* A packet is taken byte by byte: a state, a sum, and the text so far. An answer is made as text first, and framed when
 * it is whole. */
#include "debug/packet.h"

#include "kernel/format.h"
#include "kernel/string.h"

#define BREAK_BYTE 0x03
#define ESCAPE '}'
#define ESCAPE_XOR 0x20

enum { IDLE, IN_TEXT, IN_FIRST_DIGIT, IN_SECOND_DIGIT };

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static char digit_for(unsigned value)
{
    return "0123456789abcdef"[value & 15];
}

static void begin(struct packet_reader *reader)
{
    reader->state = IN_TEXT;
    reader->sum = 0;
    reader->length = 0;
    reader->escaped = reader->overflow = false;
}

/* A byte of the text. The checksum is of what goes over the line. */
static void add(struct packet_reader *reader, uint8_t byte)
{
    reader->sum = (uint8_t)(reader->sum + byte);
    if (byte == ESCAPE && !reader->escaped) {
        reader->escaped = true;
        return;
    }
    if (reader->length + 1 < PACKET_TEXT)
        reader->text[reader->length++] = (char)(reader->escaped ? byte ^ ESCAPE_XOR : byte);
    else
        reader->overflow = true;
    reader->escaped = false;
}

static enum packet_event end(struct packet_reader *reader, int low_digit)
{
    reader->state = IDLE;
    reader->text[reader->length] = 0;
    bool right = low_digit >= 0 && reader->told != UINT8_MAX && reader->sum == (reader->told << 4 | low_digit);
    return right && !reader->overflow ? PACKET_READY : PACKET_BROKEN;
}

enum packet_event packet_take(struct packet_reader *reader, uint8_t byte)
{
    int digit = digit_of((char)byte);

    if (byte == '$') { /* within a text it is escaped: the rest of the packet before is lost */
        begin(reader);
        return PACKET_NONE;
    }
    switch (reader->state) {
    case IDLE:
        return byte == BREAK_BYTE ? PACKET_BREAK : byte == '-' ? PACKET_AGAIN : PACKET_NONE;
    case IN_TEXT:
        if (byte == '#')
            reader->state = IN_FIRST_DIGIT;
        else
            add(reader, byte);
        return PACKET_NONE;
    case IN_FIRST_DIGIT:
        reader->told = digit < 0 ? UINT8_MAX : (uint8_t)digit;
        reader->state = IN_SECOND_DIGIT;
        return PACKET_NONE;
    default:
        return end(reader, digit);
    }
}

void packet_clear(struct packet_text *text)
{
    text->length = 0;
    text->cut = false;
    text->text[0] = 0;
}

void packet_say(struct packet_text *text, const char *fmt, ...)
{
    va_list args;
    size_t room = PACKET_TEXT - text->length;

    va_start(args, fmt);
    size_t added = format_list(text->text + text->length, room, fmt, args);
    va_end(args);
    text->length += added;
    text->cut |= added + 1 >= room;
}

void packet_say_hex(struct packet_text *text, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;

    for (size_t i = 0; i < size; i++) {
        if (text->length + 2 >= PACKET_TEXT) {
            text->cut = true;
            break;
        }
        text->text[text->length++] = digit_for(from[i] >> 4);
        text->text[text->length++] = digit_for(from[i]);
    }
    text->text[text->length] = 0;
}

size_t packet_frame(const struct packet_text *text, char *frame)
{
    size_t length = 0;
    uint8_t sum = 0;

    frame[length++] = '$';
    for (size_t i = 0; i < text->length; i++) {
        char c = text->text[i];
        if (c == '$' || c == '#' || c == ESCAPE || c == '*') { /* `*` would repeat the one before */
            frame[length++] = ESCAPE;
            sum = (uint8_t)(sum + ESCAPE);
            c = (char)(c ^ ESCAPE_XOR);
        }
        frame[length++] = c;
        sum = (uint8_t)(sum + (uint8_t)c);
    }
    frame[length++] = '#';
    frame[length++] = digit_for(sum >> 4);
    frame[length++] = digit_for(sum);
    return length;
}

bool packet_number(const char **at, uint64_t *value)
{
    const char *from = *at;

    *value = 0;
    for (int digit = digit_of(**at); digit >= 0; digit = digit_of(*++*at)) {
        if (*value >> 60)
            return false;
        *value = *value << 4 | (unsigned)digit;
    }
    return *at != from;
}

bool packet_bytes(const char **at, void *bytes, size_t size)
{
    uint8_t *to = bytes;

    for (size_t i = 0; i < size; i++, *at += 2) {
        int high = digit_of((*at)[0]), low = high < 0 ? -1 : digit_of((*at)[1]);
        if (low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool packet_word(const char **at, const char *word)
{
    size_t length = strlen(word);

    if (strncmp(*at, word, length) != 0)
        return false;
    *at += length;
    return true;
}
