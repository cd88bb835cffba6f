/* flip.c - swap two names, again and again: the attacker of race tests.
 *
 *   flip ONE OTHER
 *
 * exchanges ONE and OTHER until it is killed. */
#include "sys.h"

int main(int argc, char **argv)
{
  if (argc != 3)
    return 2;
  for (;;)
    if (sys_renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2],
                      2 /* RENAME_EXCHANGE */) < 0)
      return 1;
}
