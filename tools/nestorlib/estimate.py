"""Nestor's ticks in cycles of a real CPU: an ESTIMATE, from what others published and what is assumed.

A tick of Bochs is an instruction, a VM exit with its entry too. A real CPU takes long for these:"""

COUNTED = ("entries", "VMREAD", "VMWRITE", "VMPTRLD", "VMCLEAR", "INVEPT", "INVVPID", "major")
INCLUDED = ("major",)   # of VMWRITE: these are no further instructions

# cycles, and where they are from
CYCLES = {
    "entries": (1000, "exit and entry: Linux c5d167b27e00 gives about 1,000 for a whole exit of nested KVM's that "
                      "reads or writes a field, so this is a bound from above"),
    "VMREAD": (20, "Linux fadcead00c3e and 7952d769c29c left some out of each exit, and gained 6 to 25 cycles for "
                   "each"),
    "VMWRITE": (20, "assumed as VMREAD"),
    "VMPTRLD": (200, "assumed"),
    "VMCLEAR": (350, "assumed: 200, and 150 as of each two one is followed by an entry, which then makes all its "
                     "checks anew (300, as after a major control: inferred, nobody has published it)"),
    "INVEPT": (300, "assumed, without the misses that follow"),
    "INVVPID": (300, "assumed, without the misses that follow"),
    "major": (300, "the next entry makes all its checks anew: Linux 3af80fec6e7f says several hundred"),
}
INSTRUCTION = 1     # cycle for each other instruction: assumed


def cycles(ticks, counts):
    """`counts`: COUNTED -> executions for a turn. An entry is two of the ticks, its exit being one as well."""
    plain = ticks - counts["entries"] - sum(count for name, count in counts.items() if name not in INCLUDED)
    return max(plain, 0) * INSTRUCTION + sum(CYCLES[name][0] * count for name, count in counts.items())
