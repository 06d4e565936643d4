#include "kernel/serial.h"

#include "kernel/x86.h"

/* Registers of a 16550, from its port on. */
#define UART_DATA 0 /* divisor low byte while LCR_DLAB is on */
#define UART_IER 1  /* divisor high byte while LCR_DLAB is on */
#define UART_FCR 2
#define UART_LCR 3
#define UART_MCR 4
#define UART_LSR 5
#define UART_SCRATCH 7

#define LCR_8N1 0x03
#define LCR_DLAB 0x80
#define MCR_DTR_RTS 0x03
#define LSR_DATA_READY 0x01
#define LSR_HOLDING_EMPTY 0x20
#define LSR_ALL_SENT 0x40
#define DIVISOR_115200 1

/* Polls before a character is given up: about a tenth of a second, many times what 9600 baud need. */
#define WAIT_POLLS 100000u

static bool wait_for(uint16_t port, uint8_t status)
{
    for (unsigned i = 0; i < WAIT_POLLS; i++)
        if (in8(port + UART_LSR) & status)
            return true;
    return false;
}

bool serial_init(uint16_t port)
{
    /* Where nothing answers, the bus reads as ones. */
    out8(port + UART_SCRATCH, 0x5a);
    if (in8(port + UART_SCRATCH) != 0x5a || in8(port + UART_LSR) == 0xff)
        return false;
    out8(port + UART_IER, 0);
    out8(port + UART_LCR, LCR_DLAB);
    out8(port + UART_DATA, DIVISOR_115200);
    out8(port + UART_IER, 0);
    out8(port + UART_LCR, LCR_8N1);
    out8(port + UART_FCR, 0);
    out8(port + UART_MCR, MCR_DTR_RTS);
    return true;
}

static void put(uint16_t port, char c)
{
    wait_for(port, LSR_HOLDING_EMPTY);
    out8(port + UART_DATA, (uint8_t)c);
}

void serial_write(uint16_t port, const char *text, size_t size)
{
    /* L1 may have been stopped between its accesses to this UART: with DLAB on, text would become a divisor. */
    uint8_t line_control = in8(port + UART_LCR);

    if (line_control & LCR_DLAB)
        out8(port + UART_LCR, LCR_8N1);
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n')
            put(port, '\r');
        put(port, text[i]);
    }
    if (line_control & LCR_DLAB)
        out8(port + UART_LCR, line_control);
}

void serial_send(uint16_t port, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        put(port, bytes[i]);
}

int serial_take(uint16_t port)
{
    return in8(port + UART_LSR) & LSR_DATA_READY ? in8(port + UART_DATA) : -1;
}

void serial_flush(uint16_t port)
{
    wait_for(port, LSR_ALL_SENT);
}
