#include "kernel/format.h"

#include "kernel/string.h"

struct output {
    char *buffer;
    size_t size, used;
};

/* One conversion as its letters between % and the last one say. */
struct conversion {
    bool left, zero, prefix, has_precision;
    size_t width, precision;
    unsigned longs; /* 0: int, else 64 bits */
};

static void put(struct output *out, char c)
{
    if (out->used + 1 < out->size)
        out->buffer[out->used++] = c;
}

/* `sign` stays before the zeros of a zero-padded number, after the spaces of any other text. */
static void put_padded(struct output *out, const struct conversion *conv, const char *sign, const char *text,
                       size_t length)
{
    size_t signs = strlen(sign);
    size_t pad = conv->width > length + signs ? conv->width - length - signs : 0;
    bool zeros = conv->zero && !conv->left;

    for (size_t i = 0; i < pad && !conv->left && !zeros; i++)
        put(out, ' ');
    for (size_t i = 0; i < signs; i++)
        put(out, sign[i]);
    for (size_t i = 0; i < pad && zeros; i++)
        put(out, '0');
    for (size_t i = 0; i < length; i++)
        put(out, text[i]);
    for (size_t i = 0; i < pad && conv->left; i++)
        put(out, ' ');
}

static void put_number(struct output *out, const struct conversion *conv, const char *sign, uint64_t value,
                       unsigned base, const char *digits)
{
    char text[20]; /* 2^64-1 in decimal */
    size_t at = sizeof text;

    do {
        text[--at] = digits[value % base];
        value /= base;
    } while (value);
    put_padded(out, conv, sign, text + at, sizeof text - at);
}

static void put_string(struct output *out, struct conversion *conv, const char *text)
{
    if (!text)
        text = "(null)";
    conv->zero = false;
    put_padded(out, conv, "", text, conv->has_precision ? strnlen(text, conv->precision) : strlen(text));
}

static size_t parse_number(const char **fmt)
{
    size_t value = 0;

    while (**fmt >= '0' && **fmt <= '9' && value < 10000)
        value = value * 10 + (size_t)(*(*fmt)++ - '0');
    return value;
}

/* An argument of type va_list cannot be passed on by pointer where it is an array; in a struct it can. */
struct arguments {
    va_list list;
};

static size_t parse_count(const char **fmt, struct arguments *args)
{
    if (**fmt != '*')
        return parse_number(fmt);
    (*fmt)++;
    int value = va_arg(args->list, int);
    return value > 0 ? (size_t)value : 0;
}

static struct conversion parse_conversion(const char **fmt, struct arguments *args)
{
    struct conversion conv = {0};

    for (;; (*fmt)++) {
        if (**fmt == '-')
            conv.left = true;
        else if (**fmt == '0')
            conv.zero = true;
        else if (**fmt == '#')
            conv.prefix = true;
        else
            break;
    }
    conv.width = parse_count(fmt, args);
    if (**fmt == '.') {
        (*fmt)++;
        conv.has_precision = true;
        conv.precision = parse_count(fmt, args);
    }
    while (**fmt == 'l' || **fmt == 'z') {
        (*fmt)++;
        conv.longs++;
    }
    return conv;
}

static void put_signed(struct output *out, const struct conversion *conv, int64_t value)
{
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    put_number(out, conv, value < 0 ? "-" : "", magnitude, 10, "0123456789");
}

static void put_hex(struct output *out, const struct conversion *conv, uint64_t value, const char *digits)
{
    put_number(out, conv, conv->prefix && value ? "0x" : "", value, 16, digits);
}

static uint64_t next_unsigned(const struct conversion *conv, struct arguments *args)
{
    return conv->longs ? va_arg(args->list, uint64_t) : va_arg(args->list, unsigned);
}

static void put_conversion(struct output *out, struct conversion *conv, char letter, struct arguments *args)
{
    char c;

    switch (letter) {
    case 'd':
    case 'i':
        put_signed(out, conv, conv->longs ? va_arg(args->list, int64_t) : va_arg(args->list, int));
        break;
    case 'u':
        put_number(out, conv, "", next_unsigned(conv, args), 10, "0123456789");
        break;
    case 'x':
        put_hex(out, conv, next_unsigned(conv, args), "0123456789abcdef");
        break;
    case 'X':
        put_hex(out, conv, next_unsigned(conv, args), "0123456789ABCDEF");
        break;
    case 'p':
        put_number(out, conv, "0x", (uintptr_t)va_arg(args->list, void *), 16, "0123456789abcdef");
        break;
    case 's':
        put_string(out, conv, va_arg(args->list, const char *));
        break;
    case 'c':
        c = (char)va_arg(args->list, int);
        conv->zero = false;
        put_padded(out, conv, "", &c, 1);
        break;
    default: /* %%, and what is no conversion, shows itself */
        put(out, letter);
    }
}

size_t format_list(char *buffer, size_t size, const char *fmt, va_list list)
{
    struct output out = {.buffer = buffer, .size = size};
    struct arguments args;

    va_copy(args.list, list);
    while (*fmt) {
        if (*fmt != '%') {
            put(&out, *fmt++);
            continue;
        }
        fmt++;
        struct conversion conv = parse_conversion(&fmt, &args);
        if (!*fmt)
            break;
        put_conversion(&out, &conv, *fmt++, &args);
    }
    va_end(args.list);
    if (size)
        buffer[out.used] = 0;
    return out.used;
}

size_t format_text(char *buffer, size_t size, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    size_t length = format_list(buffer, size, fmt, args);
    va_end(args);
    return length;
}
