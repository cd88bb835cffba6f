/* resident.c - how much memory a worker has.
 *
 * PROBLEM  What wait4 tells of the dead is counted in batches of dozens of
 *          pages for each processor (Linux 6.2): of a small worker it says 0.
 * CHOICE   The worker asks for its own page tables to be counted when its work
 *          is done.  The file is opened while the host's /proc is in sight; it
 *          shows nothing but sums, and only of the worker itself. */
#include "keeper.h"
#include "worker.h"

int resident_open(void)
{
  return (int)sys_openat(AT_FDCWD, "/proc/self/smaps_rollup",
                         O_RDONLY | O_CLOEXEC, 0);
}

uint64_t resident_read(int fd)
{
  char table[2048];
  static const char key[] = "\nRss:";
  if (fd < 0)
    return 0;
  long got = sys_read(fd, table, sizeof(table) - 1);
  if (got <= 0)
    return 0;
  table[got] = '\0';
  for (const char *at = table; *at != '\0'; at++) {
    size_t same = 0;
    while (key[same] != '\0' && at[same] == key[same])
      same++;
    if (key[same] != '\0')
      continue;
    at += same;
    while (*at == ' ')
      at++;
    return text_number(at) * 1024u;
  }
  return 0;
}
