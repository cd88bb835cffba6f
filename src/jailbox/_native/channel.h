/* channel.h - records and the sockets that carry them.
 *
 * Used by both halves: the extension sends what the helper receives. */
#ifndef JB_CHANNEL_H
#define JB_CHANNEL_H

#include "jailbox.h"
#include "sys.h"
#include "text.h"

/* A received record.  *base* is borrowed from whoever received it. */
struct record {
  const char *base;
  size_t size;
};

/* What *span* names, or NULL when it does not lie inside the record. */
static inline const void *record_at(const struct record *record,
                                    struct jb_span span)
{
  if (span.offset > record->size || span.length > record->size - span.offset)
    return NULL;
  return record->base + span.offset;
}

/* The string that *span* names; "" for an empty or a broken one. */
static inline const char *record_text(const struct record *record,
                                      struct jb_span span)
{
  if (span.length == 0 || span.offset >= record->size ||
      span.length >= record->size - span.offset ||
      record->base[span.offset + span.length] != '\0')
    return "";
  return record->base + span.offset;
}

/* The elements that *span* names, and how many of *size* bytes they are.  They
 * stand at a multiple of eight, where every structure may be read; what stands
 * elsewhere is none. */
static inline const void *record_array(const struct record *record,
                                       struct jb_span span, size_t size,
                                       size_t *count)
{
  const void *first = span.offset % 8 == 0 ? record_at(record, span) : NULL;
  *count = first == NULL ? 0 : span.length / size;
  return first;
}

/* Fill *report* and return -1, so that a step can `return refuse(...)`. */
int refuse(struct jb_report *report, enum jb_step step, long error, int index,
           const char *detail);

long channel_send(int socket, const void *message, size_t size, const int *fds,
                  size_t count);

/* The same, but refuse (-EAGAIN) rather than wait for room. */
long channel_try(int socket, const void *message, size_t size, const int *fds,
                 size_t count);

/* Receive one message and its descriptors.  0 at the end of file. */
long channel_receive(int socket, void *buffer, size_t size, int *fds,
                     size_t room, size_t *count, int flags);

/* A request with everything that came with it. */
struct message {
  uint32_t kind; /* enum jb_message; 0 for one too short to say */
  struct record record;
  int fds[JB_FDS_MAX + 1];
  size_t count;
  size_t mapped; /* bytes of a record that was too large for a datagram */
};

/* Receive a request if there is one, into *buffer* or, when it is a LARGE, as
 * a mapping of what that stands for.  As channel_receive(), and what came is
 * the caller's until message_release(). */
long message_receive(int socket, char *buffer, size_t size,
                     struct message *message);

/* Close the descriptors that are still there, and forget the rest. */
void message_release(struct message *message);

uint64_t clock_now(void);

#endif
