/* helper.c - where the helper begins.
 *
 * PROBLEM  A static position-independent executable without a C library has
 *          nobody who applies its relocations and nobody who calls main().
 * CHOICE   _start gives the stack pointer to C; C adds the load address to
 *          each R_*_RELATIVE entry, which is all that such a program has.
 *
 * The helper knows three roles.  It is started as the keeper; the keeper forks
 * inits, an init forks monitors and agents.  No argument, no environment, no
 * file: everything it is to do arrives on descriptor 3. */
#include "keeper.h"

#include <elf.h>

extern const Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

__attribute__((noreturn, used)) void helper_main(void);

#if defined(__x86_64__)
#define RELATIVE R_X86_64_RELATIVE
__asm__(".globl _start\n.type _start, @function\n"
        "_start:\n"
        "xor %ebp, %ebp\n"
        "and $-16, %rsp\n"
        "call helper_main\n"
        "hlt\n");
#elif defined(__aarch64__)
#define RELATIVE R_AARCH64_RELATIVE
__asm__(".globl _start\n.type _start, %function\n"
        "_start:\n"
        "mov x29, xzr\n"
        "mov x30, xzr\n"
        "bl helper_main\n"
        "brk #0\n");
#else
#define RELATIVE R_RISCV_RELATIVE
__asm__(".globl _start\n.type _start, @function\n"
        "_start:\n"
        "mv fp, zero\n"
        "andi sp, sp, -16\n"
        "call helper_main\n"
        "ebreak\n");
#endif

static void relocate(void)
{
  uintptr_t base = (uintptr_t)__ehdr_start;
  const Elf64_Rela *table = NULL;
  size_t size = 0;
  for (const Elf64_Dyn *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_RELA)
      table = (const Elf64_Rela *)(base + entry->d_un.d_ptr);
    else if (entry->d_tag == DT_RELASZ)
      size = entry->d_un.d_val;
  }
  if (table == NULL)
    return;
  for (size_t i = 0; i < size / sizeof(*table); i++)
    if (ELF64_R_TYPE(table[i].r_info) == RELATIVE)
      *(uintptr_t *)(base + table[i].r_offset) =
        base + (uintptr_t)table[i].r_addend;
}

void helper_main(void)
{
  relocate();
  keeper_main();
}
