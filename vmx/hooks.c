/* The one table of hooks. It is all 0 until nested_init() fills it, which is long before there is an L2: the same
 * function registers the handler by which L1 gets into VMX operation at all. */
#include "vmx/hooks.h"

struct nested_hooks nested_hooks;
struct debug_hooks debug_hooks;
