#include "guests/lib/console.h"

#include "guests/lib/cpu.h"

#define COM1 0x3f8
#define UART_DATA 0
#define UART_IER 1
#define UART_FCR 2
#define UART_LCR 3
#define UART_MCR 4
#define UART_LSR 5
#define LCR_8N1 0x03
#define LCR_DLAB 0x80
#define LSR_EMPTY 0x20

/* Where a run can be ended: the debug-exit port of Nestor (and of other emulators), then two ports of the bare
 * emulated machine: its debug console, which echoes its own number, and its power-off port. */
#define PORT_DEBUG_EXIT 0xf4
#define PORT_DEBUG_CONSOLE 0xe9
#define PORT_SHUTDOWN 0x8900

struct conversion {
    bool zero, left;
    int width;
    int longs;
};

void console_init(void)
{
    cpu_outb(COM1 + UART_IER, 0);
    cpu_outb(COM1 + UART_LCR, LCR_DLAB);
    cpu_outb(COM1 + UART_DATA, 1); /* divisor 1: 115200 baud */
    cpu_outb(COM1 + UART_IER, 0);
    cpu_outb(COM1 + UART_LCR, LCR_8N1);
    cpu_outb(COM1 + UART_FCR, 7);
    cpu_outb(COM1 + UART_MCR, 3);
}

static void put_serial(char c)
{
    if (c == '\n')
        put_serial('\r');
    while (!(cpu_inb(COM1 + UART_LSR) & LSR_EMPTY))
        ;
    cpu_outb(COM1 + UART_DATA, (uint8_t)c);
}

static void (*put_char)(char c) = put_serial;

void console_use(void (*put)(char c))
{
    put_char = put ? put : put_serial;
}

static void put_padded(const char *text, int length, const struct conversion *conv)
{
    int pad = conv->width > length ? conv->width - length : 0;

    for (int i = 0; i < pad && !conv->left; i++)
        put_char(conv->zero ? '0' : ' ');
    for (int i = 0; i < length; i++)
        put_char(text[i]);
    for (int i = 0; i < pad && conv->left; i++)
        put_char(' ');
}

static void put_number(uint64_t value, bool negative, unsigned base, const struct conversion *conv)
{
    char text[24];
    char *p = text + sizeof(text);

    do {
        *--p = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative)
        *--p = '-';
    put_padded(p, (int)(text + sizeof(text) - p), conv);
}

static int string_length(const char *s)
{
    int n = 0;

    while (s[n])
        n++;
    return n;
}

static const char *parse_conversion(const char *p, struct conversion *conv)
{
    *conv = (struct conversion){0};
    for (; *p == '0' || *p == '-'; p++)
        *(*p == '0' ? &conv->zero : &conv->left) = true;
    for (; *p >= '0' && *p <= '9'; p++)
        conv->width = conv->width * 10 + (*p - '0');
    for (; *p == 'l'; p++)
        conv->longs++;
    return p;
}

static void put_conversion(char type, const struct conversion *conv, va_list *args)
{
    const char *s;
    int64_t n;
    char c;

    switch (type) {
    case 's':
        s = va_arg(*args, const char *);
        put_padded(s, string_length(s), conv);
        break;
    case 'c':
        c = (char)va_arg(*args, int);
        put_padded(&c, 1, conv);
        break;
    case 'd':
        n = conv->longs ? va_arg(*args, int64_t) : va_arg(*args, int);
        put_number(n < 0 ? -(uint64_t)n : (uint64_t)n, n < 0, 10, conv);
        break;
    case 'u':
        put_number(conv->longs ? va_arg(*args, uint64_t) : va_arg(*args, unsigned), false, 10, conv);
        break;
    case 'x':
        put_number(conv->longs ? va_arg(*args, uint64_t) : va_arg(*args, unsigned), false, 16, conv);
        break;
    case 'p':
        put_number((uint64_t)va_arg(*args, void *), false, 16, conv);
        break;
    default:
        put_char(type);
    }
}

void print_list(const char *format, va_list args)
{
    struct conversion conv;
    va_list copy;

    va_copy(copy, args);
    for (const char *p = format; *p; p++) {
        if (*p != '%') {
            put_char(*p);
            continue;
        }
        p = parse_conversion(p + 1, &conv);
        put_conversion(*p, &conv, &copy);
    }
    va_end(copy);
}

void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_list(format, args);
    va_end(args);
}

static void put_port(uint16_t port, const char *text)
{
    for (; *text; text++)
        cpu_outb(port, (uint8_t)*text);
}

static void debug_console_status(uint8_t status)
{
    char digits[4] = {0};
    int n = status >= 100 ? 3 : status >= 10 ? 2 : 1;

    for (int i = n - 1, rest = status; i >= 0; i--, rest /= 10)
        digits[i] = (char)('0' + rest % 10);
    put_port(PORT_DEBUG_CONSOLE, "\nguest-exit ");
    put_port(PORT_DEBUG_CONSOLE, digits);
    put_port(PORT_DEBUG_CONSOLE, "\n");
}

void guest_exit(uint8_t status)
{
    /* The last character must have left the UART before the machine ends. */
    while ((cpu_inb(COM1 + UART_LSR) & 0x60) != 0x60)
        ;
    cpu_outb(PORT_DEBUG_EXIT, status);
    if (cpu_inb(PORT_DEBUG_CONSOLE) == PORT_DEBUG_CONSOLE)
        debug_console_status(status);
    put_port(PORT_SHUTDOWN, "Shutdown");
    for (;;)
        asm volatile("cli; hlt");
}
