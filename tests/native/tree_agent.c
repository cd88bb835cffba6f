/* tree_agent.c - an agent as a plain process, for tests.
 *
 *   tree_agent SOCKET ROOT UPPER LOWER FLAGS UPPER_BASE LOWER_BASE [chroot]
 *
 * serves the directory ROOT ("-": none) on the descriptor SOCKET.  In a jail
 * the same function runs in a child of its init. */
#include "tree_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int directory(const char *path)
{
  if (strcmp(path, "-") == 0)
    return -1;
  int fd = (int)sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) {
    (void)fprintf(stderr, "%s: errno %d\n", path, -fd);
    exit(2);
  }
  return fd;
}

int main(int argc, char **argv)
{
  if (argc < 8)
    return 2;
  struct jb_tree_roots roots = {
    .root = directory(argv[2]),
    .upper = directory(argv[3]),
    .lower = directory(argv[4]),
    .merged = -1,
    .flags = (uint32_t)strtoul(argv[5], NULL, 10),
    .upper_base = (uint32_t)strtoul(argv[6], NULL, 10),
    .lower_base = (uint32_t)strtoul(argv[7], NULL, 10),
  };
  if (argc > 8 && (sys_fchdir(roots.root) < 0 || sys_chroot(".") < 0))
    return 2;
  int ended = jb_tree_serve(atoi(argv[1]), &roots, NULL);
  if (ended != 0)
    (void)fprintf(stderr, "agent: %d\n", ended);
  return ended == 0 ? 0 : 1;
}
