"""UEFI applications of the tests."""
import os
import subprocess

from lib_tap import ROOT

CC = ("gcc", "-O2", "-ffreestanding", "-fpic", "-fvisibility=hidden", "-mno-red-zone", "-mno-sse", "-I.",
      "-fno-stack-protector", "-fcf-protection=none", "-fno-jump-tables", "-c")
NASM = ("nasm", "-f", "elf64", "-I", "build/", '-DNESTOR_IMAGE="/dev/null"')


def make_program(work, name, *sources):
    """Of C and assembly, linked as nestor.efi is. Returns the program's path."""
    program, objects, commands = os.path.join(work, name + ".efi"), [], []
    for source in ("efi/header.asm", *sources):
        objects.append(os.path.join(work, os.path.basename(source) + ".o"))
        commands.append([*(NASM if source.endswith(".asm") else CC), source, "-o", objects[-1]])
    commands += [["ld", "-m", "elf_x86_64", "-nostdlib", "--no-relax", "-T", "efi/efi.ld", "-o", program + ".elf",
                  *objects], ["objcopy", "-O", "binary", program + ".elf", program]]
    for command in commands:
        subprocess.run(command, cwd=ROOT, check=True)
    return program
