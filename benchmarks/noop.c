/* noop.c - the least that a program can do: nothing, or wait for its end.
 *
 * It is linked statically, so that what is measured is the way there. */
#include <unistd.h>

int main(int argc, char **argv)
{
  (void)argv;
  while (argc > 1)
    (void)pause();
  return 0;
}
