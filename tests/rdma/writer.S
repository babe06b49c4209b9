/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All the firmware that a guest needs which only writes: it goes through its
 * memory from 1 MiB to 9 MiB without end and adds one to the first word of each
 * page.  Linked at 0xf0000, where the last 64 KiB of a ROM are seen.
 */
    .code16
    .globl _start
_start:
    cli
    lgdtl   %cs:gdt_register - _start
    movl    %cr0, %eax
    orb     $1, %al             /* protected mode */
    movl    %eax, %cr0
    ljmpl   $8, $flat

    .code32
flat:
    movw    $16, %ax
    movw    %ax, %ds
pass:
    movl    $0x100000, %ebx
page:
    incl    (%ebx)
    addl    $0x1000, %ebx
    cmpl    $0x900000, %ebx
    jb      page
    jmp     pass

    .balign 8
gdt:
    .quad   0
    .quad   0x00cf9b000000ffff  /* code: 0 to 4 GiB */
    .quad   0x00cf93000000ffff  /* data: the same */
gdt_register:
    .word   gdt_register - gdt - 1
    .long   gdt

    /* The processor begins 16 bytes below the end. */
    .org    0xfff0
    .code16
    jmp     _start
    .org    0x10000
