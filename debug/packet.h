/* The packets of GDB's remote protocol: $text#checksum, and back. docs/DEBUG.md
 * Pure.
 * debug/ uses it. */
#ifndef DEBUG_PACKET_H
#define DEBUG_PACKET_H

#include <stdarg.h>

#include "kernel/base.h"

#define PACKET_TEXT 4096u                     /* most characters of a packet's text, with the 0 behind it */
#define PACKET_FRAME (2 * (PACKET_TEXT + 4u)) /* most bytes that it takes on the line */

enum packet_event {
    PACKET_NONE,   /* nothing is complete yet */
    PACKET_READY,  /* text has a packet, terminated */
    PACKET_BROKEN, /* one came whose checksum is wrong, or that is too long: to be sent again */
    PACKET_BREAK,  /* Ctrl-C in gdb */
    PACKET_AGAIN,  /* gdb wants the last packet again */
};

struct packet_reader {
    uint8_t state, sum, told;
    bool escaped, overflow;
    size_t length;
    char text[PACKET_TEXT];
};

/* The next byte of the line, added to what came before; a fresh reader is all 0. Bytes between packets, as `+`, are
 * nothing. */
enum packet_event packet_take(struct packet_reader *reader, uint8_t byte);

/* The text of an answer as it grows. What has no room makes it `cut`, and is left out. */
struct packet_text {
    size_t length;
    bool cut;
    char text[PACKET_TEXT];
};
void packet_clear(struct packet_text *text);
void packet_say(struct packet_text *text, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Bytes as two hexadecimal digits each. */
void packet_say_hex(struct packet_text *text, const void *bytes, size_t size);
/* The packet of a text, as it goes over the line, to frame[PACKET_FRAME]: the number of bytes. */
size_t packet_frame(const struct packet_text *text, char *frame);

/* Reads a hexadecimal number at *at and moves *at behind it; false when there is none, or it has more than 64 bits. */
bool packet_number(const char **at, uint64_t *value);
/* Reads `size` bytes of two digits each; false when there are fewer. */
bool packet_bytes(const char **at, void *bytes, size_t size);
/* True if the text at *at begins so; *at is behind it then. */
bool packet_word(const char **at, const char *word);

#endif
