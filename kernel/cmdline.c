#include "kernel/cmdline.h"

#include "kernel/format.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/string.h"

enum kind { OPTION_NUMBER, OPTION_CHOICE, OPTION_FLAG };

struct row {
    const char *name;
    enum kind kind;
    size_t offset; /* of its member in struct options */
    const char *values, *text;
};

static const struct row rows[] = {
#define OPTION(member, name, kind, initial, values, text)                                                              \
    {name, OPTION_##kind, offsetof(struct options, member), values, text},
#include "kernel/options.def"
#undef OPTION
};

struct options options = {
#define OPTION(member, name, kind, initial, values, text) .member = initial,
#include "kernel/options.def"
#undef OPTION
};

/* A part of the command line; not terminated. */
struct word {
    const char *text;
    size_t length;
};

static bool word_is(const struct word *word, const char *text, size_t length)
{
    return word->length == length && memcmp(word->text, text, length) == 0;
}

/* -1: no hexadecimal digit. */
static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decimal, or hexadecimal after 0x. False for anything else, and for what needs more than 64 bits. */
static bool parse_number(const struct word *word, uint64_t *value)
{
    bool hex = word->length > 2 && word->text[0] == '0' && (word->text[1] == 'x' || word->text[1] == 'X');
    unsigned base = hex ? 16 : 10;

    *value = 0;
    for (size_t i = hex ? 2 : 0; i < word->length; i++) {
        int digit = digit_value(word->text[i]);
        if (digit < 0 || (unsigned)digit >= base || *value > (UINT64_MAX - (unsigned)digit) / base)
            return false;
        *value = *value * base + (unsigned)digit;
    }
    return word->length > 0;
}

/* `values` is "MIN..MAX". */
static bool parse_in_range(const char *values, const struct word *word, uint64_t *value)
{
    const char *dots = strchr(values, '.');
    struct word low = {values, (size_t)(dots - values)};
    struct word high = {dots + 2, strlen(dots + 2)};
    uint64_t min, max;

    return parse_number(&low, &min) && parse_number(&high, &max) && parse_number(word, value) && *value >= min &&
           *value <= max;
}

#define PORT_PART "PORT"
#define PORT_MAX 0xfff8u

/* True if the choice at `values` ends in "PORT", and the word is the same with a number in its place. */
static bool parse_port(const char *values, size_t length, const struct word *word, uint64_t *value)
{
    size_t part = strlen(PORT_PART), head = length - part;

    if (length < part || memcmp(values + head, PORT_PART, part) != 0 || word->length <= head ||
        memcmp(word->text, values, head) != 0)
        return false;
    struct word number = {word->text + head, word->length - head};
    return parse_number(&number, value) && *value >= OPTION_PORT_MIN && *value <= PORT_MAX;
}

/* `values` is "a|b|c"; *value becomes the index, or the number that stands for PORT. */
static bool parse_choice(const char *values, const struct word *word, uint64_t *value)
{
    for (unsigned index = 0;; index++) {
        const char *bar = strchr(values, '|');
        size_t length = bar ? (size_t)(bar - values) : strlen(values);
        *value = index;
        if (word_is(word, values, length) || parse_port(values, length, word, value))
            return true;
        if (!bar)
            return false;
        values = bar + 1;
    }
}

static const struct row *find_row(const struct word *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (word_is(name, rows[i].name, strlen(rows[i].name)))
            return &rows[i];
    return NULL;
}

/* `value` is NULL for a name without "=". */
static bool parse_value(const struct row *row, const struct word *value, uint64_t *member)
{
    static const struct word flag_on = {"1", 1};

    if (!value && row->kind != OPTION_FLAG)
        return false;
    switch (row->kind) {
    case OPTION_NUMBER:
        return parse_in_range(row->values, value, member);
    case OPTION_CHOICE:
        return parse_choice(row->values, value, member);
    case OPTION_FLAG:
        return parse_choice(row->values, value ? value : &flag_on, member);
    }
    return false;
}

#define SHOWN 60 /* characters of a word that a message quotes */

static void report_unknown(const struct word *name, bool list, cmdline_report_fn report)
{
    char line[160];

    format_text(line, sizeof line, "unknown option \"%.*s\" is ignored%s", (int)MIN(name->length, SHOWN), name->text,
                list ? "; the known ones are:" : "");
    report(false, line);
    for (size_t i = 0; list && i < ARRAY_SIZE(rows); i++) {
        format_text(line, sizeof line, "  %s=%s: %s", rows[i].name, rows[i].values, rows[i].text);
        report(false, line);
    }
}

static void report_bad_value(const struct row *row, const struct word *value, cmdline_report_fn report)
{
    char line[240];

    if (value)
        format_text(line, sizeof line, "option %s: \"%.*s\" is not one of %s", row->name,
                    (int)MIN(value->length, SHOWN), value->text, row->values);
    else
        format_text(line, sizeof line, "option %s needs a value, one of %s", row->name, row->values);
    report(true, line);
}

/* Takes the next word off *text; its length is 0 at the end. */
static struct word next_word(const char **text)
{
    while (**text == ' ')
        ++*text;
    struct word word = {*text, 0};
    while (**text && **text != ' ') {
        ++*text;
        word.length++;
    }
    return word;
}

int cmdline_parse(const char *text, struct options *to, cmdline_report_fn report)
{
    bool listed = false;
    int result = 0;

    for (struct word word = next_word(&text); word.length; word = next_word(&text)) {
        const char *equals = memchr(word.text, '=', word.length);
        struct word name = {word.text, equals ? (size_t)(equals - word.text) : word.length};
        struct word value = {word.text + name.length + 1, equals ? word.length - name.length - 1 : 0};
        const struct row *row = find_row(&name);
        uint64_t parsed;

        if (!row) {
            report_unknown(&name, !listed, report);
            listed = true;
        } else if (parse_value(row, equals ? &value : NULL, &parsed)) {
            memcpy((uint8_t *)to + row->offset, &parsed, sizeof parsed);
        } else {
            report_bad_value(row, equals ? &value : NULL, report);
            result = -1;
        }
    }
    return result;
}
