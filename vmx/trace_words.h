/* Records of the trace in words: exit reasons and events by name.
 * start/ calls it once, before L1 starts; then kernel/trace prints so what it has after a panic, and with log=dbg. */
#ifndef VMX_TRACE_WORDS_H
#define VMX_TRACE_WORDS_H

void trace_words_init(void);

#endif
