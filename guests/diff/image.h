/* VMCS contents as plain arrays: what an operation wants in the VMCS, and what is known to be there.
 * image_init() once, after caps_init(). A VMWRITE costs an exit on Nestor, so that only differences are written. */
#ifndef GUESTS_DIFF_IMAGE_H
#define GUESTS_DIFF_IMAGE_H

#include "guests/diff/caps.h"

enum field_index {
#define FIELD(name, encoding, width, area, sync, merge, ...) F_##name,
#include "vmx/vmcs_fields.def"
#undef FIELD
    F_COUNT
};

enum field_area { AREA_CONTROL, AREA_INFO, AREA_GUEST, AREA_HOST };
enum field_width { WIDTH_16, WIDTH_64, WIDTH_32, WIDTH_NATURAL };

struct field {
    const char *name;
    uint16_t encoding;
    bool offered; /* both runs have it */
};
extern struct field fields[F_COUNT];

struct image {
    uint64_t f[F_COUNT];
};

/* One VMCS of L1. */
struct l2 {
    uint64_t region;
    bool launched;
    bool valid[F_COUNT]; /* known.f[] is what the VMCS holds */
    struct image known;
};

void image_init(void);
enum field_area field_area(unsigned index);
enum field_width field_width(unsigned index);
/* True if both runs agree that the encoding exists, or that it does not. */
bool field_encoding_shared(uint64_t encoding);

void l2_init(struct l2 *);
/* VMPTRLD. */
void l2_load(struct l2 *);
/* VMCLEAR: what was written stays. */
void l2_clear(struct l2 *);
/* Makes the current VMCS hold `wanted`, the exit information aside. */
void l2_write(struct l2 *, const struct image *wanted);
uint64_t l2_read(struct l2 *, unsigned index);

#endif
