/* fds.c - which descriptors a child keeps. */
#include "keeper.h"

void close_others(int *keep, size_t count)
{
  for (size_t i = 1; i < count; i++)
    for (size_t k = i; k > 0 && keep[k - 1] > keep[k]; k--) {
      int swap = keep[k];
      keep[k] = keep[k - 1];
      keep[k - 1] = swap;
    }
  unsigned from = 0;
  for (size_t i = 0; i < count; i++) {
    if (keep[i] < 0 || (unsigned)keep[i] < from)
      continue;
    if ((unsigned)keep[i] > from)
      (void)sys_close_range(from, (unsigned)keep[i] - 1, 0);
    from = (unsigned)keep[i] + 1;
  }
  (void)sys_close_range(from, ~0u, 0);
}
