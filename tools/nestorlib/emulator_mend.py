"""Mends a copy of a build of Bochs that is wrong: it gets a right long_idiv() (tools/emulators/idiv.asm), and virtual
interrupts that come once, when they may, and whose exits name them."""
import hashlib
import os
import struct
import tempfile

from nestorlib import process
from nestorlib.errors import RunnerError
from nestorlib.paths import TOOLS

SOURCE = os.path.join(TOOLS, "emulators", "idiv.asm")
SYMBOL = b"_Z9long_idivP7Bit128sPlPKS_l"

# A function of virtual interrupts -> (offset, what is there, what shall be) of each change.
PATCHES = {
    # highest_priority_int() returns -1 where no bit of the virtual IRR is set, and its caller takes that for vector
    # FFH. A test for it goes to the place of the comparison with RVI, and that to the padding before a loop.
    b"_ZN8BX_CPU_C31VMX_Posted_Interrupt_ProcessingEh": (
        (0x171, "0f 1f 40 00 66 66 2e 0f 1f 84 00 00 00 00 00",
         "eb 0d  3a 83 01 90 00 00  72 62  eb 58  90 90 90"),   # jmp loop; cmp al, RVI; jb end; jmp store
        (0x1cf, "3a 83 01 90 00 00  72 06  88 83 01 90 00 00",
         "85 c0  78 0a  eb 9e  88 83 01 90 00 00  90 90"),      # test eax, eax; js end; jmp cmp; store: mov RVI, al
    ),
    # An interrupt that is to exit lets a virtual one in that is pending, also while RFLAGS.IF keeps it out: its bit is
    # looked for in pending_event alone. Where that has it event_mask is asked, too, in the padding behind the function.
    b"_ZN8BX_CPU_C18HandleExtInterruptEv": (
        (0x041, "0f 85 a9 00 00 00", "0f 85 10 01 00 00"),      # jne ask
        (0x157, "90 0f 1f 84 00 00 00 00 00",
         "f6 83 e5 91 00 00 02  eb 8d"),                        # ask: test byte event_mask + 1, 2; jmp decide
        (0x0ed, "0f 1f 00", "75 12 90"),                        # decide: jne back; then the delivery
        (0x101, "0f 1f 80 00 00 00 00", "e9 41 ff ff ff 66 90"),    # back: jmp behind the first jne
    ),
    # A virtual interrupt does not end HLT: its bit is not among those that the loop before the function waits for.
    b"_ZN8BX_CPU_C18handleWaitForEventEv": (
        (-0x18f, "a9 97 e0 00 00", "a9 97 e2 00 00"),           # test eax, events
    ),
    # An exit out of the delivery names the event before: nothing notes this one. That takes the place of the call of
    # bx_instr_hwinterrupt(), which does nothing.
    b"_ZN8BX_CPU_C29VMX_Deliver_Virtual_InterruptEv": (
        (0x15e, "48 8b 8d e8 00 00 00  0f b7 95 80 01 00 00  44 89 e6  8b 7d 38  e8 f9 92 0c 00",
         "44 89 a5 b0 90 00 00"                                 # mov idt_vector_info, vector
         "c7 85 b4 90 00 00 00 00 00 00"                        # mov idt_vector_error_code, 0
         "c6 85 d9 91 00 00 00  90"),                           # mov nmi_unblocking_iret, 0
    ),
}

# Changes when they do: what was seen of an earlier list says nothing.
PATCHES_STAMP = hashlib.sha256(repr(PATCHES).encode()).hexdigest()[:8]

# Builds that are known to be wrong, and in no other way: SHA-256 -> what it is.
BROKEN = {"18a8d445498ac03bc54b28a2d3890e3e3d4f113617e7e03408a69f5e58a91e05": "Debian's 3.1+dfsg-1, amd64"}

SHT_DYNSYM = 11
SHF_ALLOC = 2


def sections(data):
    """(type, flags, address, offset, size, link) of each section of the ELF file."""
    start, = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    for index in range(count):
        _, kind, flags, address, offset, length, link = struct.unpack_from("<IIQQQQI", data, start + index * size)
        yield kind, flags, address, offset, length, link


def find_function(data, name):
    """Offset and size of an exported function in the file."""
    listed = list(sections(data))
    for kind, _, _, offset, length, link in listed:
        if kind != SHT_DYNSYM:
            continue
        names = listed[link][3]
        for entry in range(offset, offset + length, 24):
            at, _, _, _, value, size = struct.unpack_from("<IBBHQQ", data, entry)
            if data[names + at:names + at + len(name) + 1] == name + b"\0":
                for _, flags, address, start, span, _ in listed:
                    if flags & SHF_ALLOC and address <= value < address + span:
                        return value - address + start, size
    raise RunnerError(f"no function {name.decode()} in it")


def machine_code():
    with tempfile.TemporaryDirectory(prefix="emulator-mend.") as work:
        output = os.path.join(work, "idiv.bin")
        process.run_quietly(["nasm", "-f", "bin", "-Werror", "-o", output, SOURCE])
        with open(output, "rb") as file:
            return file.read()


def mend_division(data):
    code = machine_code()
    offset, size = find_function(data, SYMBOL)
    if len(code) > size:
        raise RunnerError(f"the new function has {len(code)} bytes, and there is room for {size}")
    data[offset:offset + len(code)] = code


def patch(data, offset, old, new):
    """Of the same length; nothing is done where it was done before."""
    old, new = bytes.fromhex(old), bytes.fromhex(new)
    there = data[offset:offset + len(old)]
    if there not in (old, new) or len(old) != len(new):
        raise RunnerError(f"at {offset:x} of the program is not what is to be replaced")
    data[offset:offset + len(new)] = new


def mend_virtual_interrupts(data):
    for symbol, patches in PATCHES.items():
        start, _ = find_function(data, symbol)
        for offset, old, new in patches:
            patch(data, start + offset, old, new)


def is_mended(path):
    """True if virtual interrupts are mended in that program."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        starts = {symbol: find_function(data, symbol)[0] for symbol in PATCHES}
    except (RunnerError, struct.error):
        return False
    return all(data.startswith(bytes.fromhex(new), starts[symbol] + offset)
               for symbol, patches in PATCHES.items() for offset, _, new in patches)


def mend(path):
    """Replaces the file by its mended copy. A build that is not in BROKEN is refused: nobody has looked at it."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    digest = hashlib.sha256(data).hexdigest()
    if digest not in BROKEN:
        raise RunnerError(f"{path} (SHA-256 {digest}) divides wrongly and is a build that nobody has looked at: "
                          "it is not mended, and not used")
    mend_division(data)
    mend_virtual_interrupts(data)
    replace(path, data)


def mend_more(path):
    """Likewise for one that was mended when less was known: its division is right."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    mend_virtual_interrupts(data)
    replace(path, data)


def replace(path, data):
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.chmod(path + ".new", 0o755)
    os.replace(path + ".new", path)
