/* text.h - the few string operations that a process without libc needs.
 *
 * Nothing here allocates; every writer is bounded and says whether it fit. */
#ifndef JB_TEXT_H
#define JB_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t text_length(const char *text)
{
  size_t n = 0;
  while (text[n] != '\0')
    n++;
  return n;
}

static inline bool text_starts(const char *text, const char *prefix)
{
  while (*prefix != '\0')
    if (*text++ != *prefix++)
      return false;
  return true;
}

/* A string under construction in a buffer of the caller's.  Overflow is
 * remembered, never written. */
struct text {
  char *at;
  size_t room;
  bool overflow;
};

static inline struct text text_into(char *buffer, size_t size)
{
  buffer[0] = '\0';
  return (struct text){.at = buffer, .room = size, .overflow = false};
}

static inline void text_add(struct text *out, const char *part)
{
  while (*part != '\0') {
    if (out->room < 2) {
      out->overflow = true;
      return;
    }
    *out->at++ = *part++;
    out->room--;
  }
  *out->at = '\0';
}

static inline void text_add_number(struct text *out, uint64_t value)
{
  char digits[21];
  size_t n = sizeof(digits) - 1;
  digits[n] = '\0';
  do {
    digits[--n] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  text_add(out, digits + n);
}

/* The leading decimal number of *text*; stops at the first other character. */
static inline uint64_t text_number(const char *text)
{
  uint64_t value = 0;
  while (*text >= '0' && *text <= '9')
    value = value * 10 + (uint64_t)(*text++ - '0');
  return value;
}

#endif
