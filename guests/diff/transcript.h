/* The transcript: what both runs must agree on, as a 64-bit hash per block, and as text for the blocks asked for.
 * A line is an operation or an exit of one; tr() adds a value to it; tr_note() adds to the text alone. */
#ifndef GUESTS_DIFF_TRANSCRIPT_H
#define GUESTS_DIFF_TRANSCRIPT_H

#include "kernel/base.h"

void tr_begin(unsigned block, bool verbose);
/* Starts a line. */
void tr_line(const char *what);
void tr(const char *name, uint64_t value);
/* Values in a row of the same kind: they get numbered names. */
void tr_list(const char *name, const uint64_t *values, unsigned count);
/* The reason for the line, for the reader: not compared. */
void tr_note(const char *name, uint64_t value);
/* Bytes, as a remark too. */
void tr_note_bytes(const uint8_t *bytes, unsigned count);
bool tr_verbose(void);
uint64_t tr_end(void);

#endif
