"""Nestor's ticks in cycles of a real CPU: an ESTIMATE, from what others published and what is assumed.

A tick of Bochs is an instruction, a VM exit with its entry too. A real CPU takes long for these:"""

COUNTED = ("entries", "VMREAD", "VMWRITE", "VMPTRLD", "VMCLEAR", "INVEPT", "INVVPID")

# cycles, and where they are from
CYCLES = {
    "entries": (1000, "exit and entry: Linux c5d167b27e00 gives about 1,000 for a whole exit of nested KVM's that "
                      "reads or writes a field, so this is a bound from above"),
    "VMREAD": (20, "assumed; Linux 7952d769c29c left those of the rare guest fields out of each exit, and gained "
                   "about 200 cycles in all"),
    "VMWRITE": (20, "assumed as VMREAD; Linux 3af80fec6e7f says that writes of controls make the next entry dearer by "
                    "several hundred, which is not in here"),
    "VMPTRLD": (200, "assumed"),
    "VMCLEAR": (200, "assumed"),
    "INVEPT": (300, "assumed, without the misses that follow"),
    "INVVPID": (300, "assumed, without the misses that follow"),
}
INSTRUCTION = 1     # cycle for each other instruction: assumed


def cycles(ticks, counts):
    """`counts`: COUNTED -> executions for a turn. An entry is two of the ticks, its exit being one as well."""
    plain = ticks - counts["entries"] - sum(counts.values())
    return max(plain, 0) * INSTRUCTION + sum(CYCLES[name][0] * count for name, count in counts.items())
