; The PE header of nestor.efi, by hand: one section of code, read-only data and Nestor's image, one that can be written,
; a relocation table that relocates nothing, as some loaders want one, and the generation numbers without which shim
; starts no image. Microsoft PE and COFF specification; SBAT.md of shim.
%include "boot/boot_values.inc"
bits 64
extern efi_main
extern efi_text, efi_text_size, efi_data, efi_data_size, efi_data_file_size, efi_reloc, efi_reloc_size, efi_size
extern efi_sbat, efi_sbat_size

MACHINE_X64 equ 0x8664
CHARACTERISTICS equ 0x022e              ; executable, no line numbers, no symbols, large addresses, no debug information
PE32_PLUS equ 0x20b
SUBSYSTEM_APPLICATION equ 10            ; EFI application
PAGE equ 0x1000
CODE equ 0x60000020                     ; code, read, execute
DATA equ 0xc0000040                     ; initialised data, read, write
RELOC equ 0x42000040                    ; initialised data, read, discardable
SBAT equ 0x40000040                     ; initialised data, read

section .header progbits alloc
        dw "MZ"
        times 58 db 0
        dd pe - $$
pe:     db "PE", 0, 0
        dw MACHINE_X64
        dw 4
        dd 0, 0, 0                      ; no date: the same sources make the same file
        dw optional_end - optional
        dw CHARACTERISTICS
optional:
        dw PE32_PLUS
        db 2, 0
        dd efi_text_size
        dd efi_data_size
        dd 0
        dd efi_main
        dd efi_text
        dq 0                            ; base: any
        dd PAGE
        dd PAGE                         ; of the file, too: it is laid out as in memory
        dw 0, 0, 0, 0, 2, 0
        dd 0
        dd efi_size
        dd PAGE                         ; the headers
        dd 0
        dw SUBSYSTEM_APPLICATION
        dw 0
        dq 0, 0, 0, 0
        dd 0
        dd 6
        dq 0, 0, 0, 0, 0
        dd efi_reloc, efi_reloc_size
optional_end:
        db ".text", 0, 0, 0
        dd efi_text_size, efi_text, efi_text_size, efi_text
        dd 0, 0, 0
        dd CODE
        db ".data", 0, 0, 0
        dd efi_data_size, efi_data, efi_data_file_size, efi_data
        dd 0, 0, 0
        dd DATA
        db ".reloc", 0, 0
        dd efi_reloc_size, efi_reloc, efi_reloc_size, efi_reloc
        dd 0, 0, 0
        dd RELOC
        db ".sbat", 0, 0, 0
        dd efi_sbat_length, efi_sbat, efi_sbat_size, efi_sbat
        dd 0, 0, 0
        dd SBAT

section .reloc progbits alloc
        dd 0, 12                        ; of page 0, with
        dw 0, 0                         ; two entries that say nothing

; One line for the format, one for Nestor, whose generation (the second word) grows with each hole that is to keep older
; images from being started.
section .sbat progbits alloc
sbat:   db "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md", 10
        db "nestor,1,Nestor,nestor,", VERSION, ",https://bugzilla.kernel.org/show_bug.cgi?id=53761", 10
efi_sbat_length equ $ - sbat

section .image progbits alloc align=4096
global nestor_image, nestor_image_end
nestor_image:
        incbin NESTOR_IMAGE
nestor_image_end:

section .note.GNU-stack noalloc noexec nowrite progbits
