/* The space that a guest may read through the port of the option inspect=: a read-only space of 32-bit words.
 * The guest writes the byte offset of a word to the port (32 bits), and then reads words; each read moves on by one
 * word. The offset belongs to the processor that wrote it. A word that is not there reads as all-ones. vmx/inspect
 * answers, tools/nestorctl asks: the one definition that both have. */
#ifndef KERNEL_INSPECT_ABI_H
#define KERNEL_INSPECT_ABI_H

#include <stdint.h>

#define INSPECT_MAGIC 0x4e535452u /* "NSTR" */
#define INSPECT_VERSION 1u

/* CPUID, when the option is on: EAX the last leaf, EBX, ECX and EDX the signature; in the next leaf EAX the version,
 * EBX the port, ECX the number of processors. CPUID.1:ECX[31] stays 0: for L1 this is a machine, not a guest's. */
#define INSPECT_LEAF 0x40000000u
#define INSPECT_LEAF_PORT 0x40000001u
/* With the option evmcs=1 another interface has these leaves: Nestor's are this much higher. */
#define INSPECT_LEAF_STEP 0x100u
#define INSPECT_SIGNATURE "NestorNestor" /* 12 bytes */

/* Bits 31:28 of an offset choose the area; what a processor has begins at a multiple of the area's stride. */
#define INSPECT_OFFSET(area, byte) ((uint32_t)(area) << 28 | (uint32_t)(byte))
enum inspect_area {
    INSPECT_HEADER,   /* struct inspect_header */
    INSPECT_TEXT,     /* lines "key: value", 0 at the end */
    INSPECT_LOG,      /* struct inspect_log_position, then the ring */
    INSPECT_COUNTERS, /* for each processor: its counters, exits of L1, exits of L2, by reason; 64 bits each */
    INSPECT_TRACE,    /* for each processor: records ever (64 bits), then its ring of struct inspect_record */
    INSPECT_POLICY,   /* the MSR bitmap that says what L0 keeps: 4 KiB */
    INSPECT_PREVIOUS, /* as INSPECT_LOG, of the run before a reset; written is 0 when there is none */
    INSPECT_VMCS,     /* of the processor that reads: struct inspect_vmcs, then the fields, 64 bits each */
    INSPECT_BITMAP,   /* the same: struct inspect_bitmap, then L1's MSR bitmap, 4 KiB */
};

struct inspect_header {
    uint32_t magic, version;
    uint32_t text_bytes; /* of INSPECT_TEXT */
    uint32_t log_bytes;  /* of the log's ring */
    uint32_t cpus, counters, reasons;
    uint32_t counters_stride; /* bytes */
    uint32_t trace_records;   /* of each processor's ring: of the option trace=, or 0 */
    uint32_t trace_stride;    /* bytes */
};

/* Precedes the text in INSPECT_LOG and INSPECT_PREVIOUS: bytes ever written; the next goes to written % log_bytes. */
struct inspect_log_position {
    uint64_t written;
};

/* Precedes the fields of L1's current VMCS, in the order of vmx/vmcs_fields.def. */
struct inspect_vmcs {
    uint64_t vmptr; /* ~0: L1 has none, and there are no fields */
    uint32_t launched, fields;
};

/* Precedes the MSR bitmap of L1's current VMCS. */
struct inspect_bitmap {
    uint64_t vmptr; /* ~0: L1 has none */
    uint64_t page;  /* ~0: it uses none, and every access exits */
};

/* An event and its time: kernel/trace.h has the types, and what a and b are. */
struct inspect_record {
    uint64_t tsc;
    uint32_t a, type;
    uint64_t b;
};

#endif
