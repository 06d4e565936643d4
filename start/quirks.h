/* Features that this machine promises and does not have: found by trial where one does no harm, else told by options.
 * Pages can be had; the other processors are not started. Start's own. */
#ifndef START_QUIRKS_H
#define START_QUIRKS_H

/* Takes from l1_vm.caps what does nothing, and notes the options. */
void quirks_find(void);

#endif
