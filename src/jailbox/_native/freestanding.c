/* freestanding.c - what a compiler takes for granted.
 *
 * gcc may turn an assignment of a structure into a call of memcpy even in a
 * freestanding program, so these four must exist.  They are written so that
 * the optimizer does not recognize them as calls of themselves. */
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *at, int byte, size_t size);
int memcmp(const void *left, const void *right, size_t size);

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
  char *t = to;
  const char *f = from;
  while (size-- != 0) {
    *t++ = *f++;
    __asm__ volatile("" ::: "memory");
  }
  return to;
}

void *memmove(void *to, const void *from, size_t size)
{
  char *t = to;
  const char *f = from;
  if (t <= f || t >= f + size)
    return memcpy(to, from, size);
  while (size-- != 0) {
    t[size] = f[size];
    __asm__ volatile("" ::: "memory");
  }
  return to;
}

void *memset(void *at, int byte, size_t size)
{
  char *p = at;
  while (size-- != 0) {
    *p++ = (char)byte;
    __asm__ volatile("" ::: "memory");
  }
  return at;
}

int memcmp(const void *left, const void *right, size_t size)
{
  const unsigned char *l = left;
  const unsigned char *r = right;
  for (; size != 0; size--, l++, r++)
    if (*l != *r)
      return *l < *r ? -1 : 1;
  return 0;
}
