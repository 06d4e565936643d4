#include "vmx/hooks.h"

struct nested_hooks nested_hooks;
