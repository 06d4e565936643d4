/* Nestor's version, here and nowhere else.
 * Anyone may include it. */
#ifndef KERNEL_VERSION_H
#define KERNEL_VERSION_H

#define NESTOR_VERSION "0.1.0"

#endif
