/* A 16550 UART, written and read by polling.
 * serial_init() first; a port without a UART is found then and must not be written.
 * kernel/log.c and debug/stub use it. */
#ifndef KERNEL_SERIAL_H
#define KERNEL_SERIAL_H

#include "kernel/base.h"

#define SERIAL_COM1 0x3f8
#define SERIAL_COM2 0x2f8

/* Sets 115200 8n1. False when there is no UART at `port`. */
bool serial_init(uint16_t port);
/* Waits for room with a bound: characters are lost rather than Nestor hung. A \n becomes \r\n. */
void serial_write(uint16_t port, const char *text, size_t size);
/* The same of bytes as they are. */
void serial_send(uint16_t port, const char *bytes, size_t size);
/* The byte that has come, or -1. */
int serial_take(uint16_t port);
/* Waits, with a bound, until the last character is on the line. */
void serial_flush(uint16_t port);

#endif
