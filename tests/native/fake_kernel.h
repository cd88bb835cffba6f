/* fake_kernel.h - a kernel that touches nothing and may answer anything.
 *
 * PROBLEM  The helper lives between clone and exec, without a C library: no
 *          sanitizer can be linked into it, and what it does to a machine
 *          cannot be tried a million times.
 * CHOICE   Its files are compiled as a part of an ordinary program, with every
 *          system call replaced by a function here.  That reads what the
 *          kernel would read and writes what it would write, so that a wrong
 *          address is found; what it answers is chosen by chance.  A child is
 *          played by the same process: a clone answers as to the parent or as
 *          to the child. */
#ifndef FAKE_KERNEL_H
#define FAKE_KERNEL_H

#include "sys.h"

#include <stdbool.h>

/* One of *below* numbers, by chance; 0 for 0. */
uint32_t any(uint32_t below);
void chance_seed(uint64_t seed);

/* What the next receiver gets: at most *room* bytes in *buffer*, and how many
 * descriptors beside them.  Returns the size; 0 is the end of file.  A record
 * that is too large for a datagram stands in *large*. */
struct letter {
  size_t size;
  size_t fds;
  const char *large;
  size_t large_size;
};
typedef void postman(char *buffer, size_t room, struct letter *letter);

/* Run *entry* until it exits, or until *calls* system calls were made.  One of
 * *luck* calls is refused; with 0 none is.  With *child* the first clone answers
 * as to the child. */
void kernel_run(void (*entry)(void), postman *post, uint32_t luck, long calls,
                bool child);

#endif
