/* The second processor: started by INIT and a start-up IPI, it then does one job after the other.
 * second_prepare() once. The first processor calls what is here, except for what a job may call. */
#ifndef GUESTS_SMP_SECOND_H
#define GUESTS_SMP_SECOND_H

#include "kernel/base.h"

#define ICR_INIT 0x4500u
#define ICR_NMI 0x4400u
#define ICR_STARTUP 0x4600u

void second_prepare(void);
/* INIT and start-up IPI, whatever it does; aborts the scenario when it does not come. */
void second_start(void);
/* Sends it an IPI: the low half of the ICR. */
void second_send(uint32_t command);
void second_send_nmi(void);
/* NMIs that second_send_nmi() sent, and those that came, by interrupt or as an exit of L2. */
extern unsigned second_nmis_sent;
extern volatile unsigned second_nmis;
/* True if all that were sent came within a while. */
bool second_took_nmis(void);
/* Gives it a job; it has none. */
void second_do(void (*job)(void));
/* True if it has done its job, at once or within a while. */
bool second_is_idle(void);
bool second_finishes(void);
/* How often it came up. */
extern volatile uint64_t second_starts;

/* For a job: VMX operation with a region of its own. */
void second_vmx_on(void);
void second_vmx_off(void);

#endif
