/* untar.h - a tar archive as a sequence of calls.
 *
 * PROBLEM  Every archive is hostile until its last byte, and the format is
 *          forty years of dialects laid over each other.
 * CHOICE   A parser that knows nothing of file systems: bytes come from a
 *          callback, entries go to callbacks.  It allocates nothing, keeps a
 *          bounded amount, looks at each byte once, and can be driven by a
 *          fuzzer as well as by a worker.
 * READS    v7; ustar; GNU (long names and links, base-256 numbers, sparse);
 *          pax (x, g, SCHILY.xattr, GNU.sparse 0.0, 0.1 and 1.0); star.
 * STRICT   A header that does not add up, a number that is none, a record that
 *          does not fit: the archive is refused there, with the reason.  Where
 *          the readers of this world differ, it does what Go's archive/tar
 *          does, with which images are made. */
#ifndef JB_UNTAR_H
#define JB_UNTAR_H

#include "jailbox.h"

#include <stdbool.h>

#define UNTAR_BLOCK ((size_t)512)
#define UNTAR_BUFFER ((size_t)1 << 20)
#define UNTAR_PAX_MAX ((size_t)1 << 20) /* of one extended header */
#define UNTAR_NAME_MAX ((size_t)4095)   /* PATH_MAX, without the NUL */
#define UNTAR_HOLES_MAX ((size_t)1 << 16)

/* Type of an entry, whatever the archive wrote. */
enum untar_type {
  UNTAR_NOTHING = 0,
  UNTAR_FILE = '0',
  UNTAR_HARD_LINK = '1',
  UNTAR_LINK = '2',
  UNTAR_CHARACTER = '3',
  UNTAR_BLOCK_DEVICE = '4',
  UNTAR_DIRECTORY = '5',
  UNTAR_FIFO = '6'
};

struct untar_entry {
  uint64_t index; /* from 0 */
  enum untar_type type;
  uint32_t mode; /* 07777 of it */
  uint32_t uid;
  uint32_t gid;
  uint32_t major;
  uint32_t minor;
  uint32_t mtime_ns;
  int64_t mtime_s;
  uint64_t size;    /* of a file, holes included */
  const char *path; /* both end with a NUL and have no other */
  size_t path_size;
  const char *link;
  size_t link_size;
  const char *records; /* extended attributes: see untar_xattr */
  size_t records_size;
  bool sparse;
};

struct untar_xattr {
  const char *name;
  const char *value;
  size_t size;
};

/* The next extended attribute of *entry*; *at* starts with 0. */
bool untar_xattr(const struct untar_entry *entry, size_t *at,
                 struct untar_xattr *out);

/* What the parser calls.  Everything but read returns 0 to go on, or less to
 * stop; what it was given is valid until it returns. */
struct untar_calls {
  void *context;
  /* At most *size* bytes of the archive; 0 at its end, -errno. */
  long (*read)(void *context, char *buffer, size_t size);
  int (*entry)(void *context, const struct untar_entry *entry);
  /* Content of a file, in order; what is left out is a hole. */
  int (*data)(void *context, uint64_t offset, const char *bytes, size_t size);
  int (*end)(void *context, const struct untar_entry *entry);
};

struct untar_hole { /* where data stands between the holes */
  uint64_t offset;
  uint64_t size;
};

/* Fields that an extended header may say instead of a header. */
struct untar_said {
  uint32_t fields; /* bits of what was said */
  uint64_t size;
  uint64_t uid;
  uint64_t gid;
  int64_t mtime_s;
  uint32_t mtime_ns;
  size_t path_size;
  size_t link_size;
  char path[UNTAR_NAME_MAX + 1];
  char link[UNTAR_NAME_MAX + 1];
};

/* The state of one archive.  Large: it belongs into memory of its own, all
 * zero but for the first four. */
struct untar {
  const struct untar_calls *calls;
  uint64_t max_bytes; /* of the archive, and of a file; 0: no bound */
  uint64_t max_entries;
  char *buffer; /* UNTAR_BUFFER bytes */

  /* How it ended. */
  enum jb_work_reason reason;
  long error;     /* of the stream */
  bool ended;     /* the end marks were there */
  uint64_t read;  /* bytes of the archive */
  uint64_t entry; /* index of the entry being read */
  uint64_t bytes; /* of content */

  size_t at; /* what of the buffer has not been looked at */
  size_t have;
  bool exhausted; /* the stream has said that it ends */
  size_t pax_size;
  size_t holes_count;
  uint64_t real_size;
  uint64_t sparse_major;
  uint64_t sparse_minor;
  uint32_t sparse_fields;
  struct untar_said said;   /* for the next entry */
  struct untar_said global; /* for all that follow */
  char path[UNTAR_NAME_MAX + 1];
  char link[UNTAR_NAME_MAX + 1];
  char pax[UNTAR_PAX_MAX];
  struct untar_hole holes[UNTAR_HOLES_MAX];
};

/* Read a whole archive: 0, or -1 with *reason*; NONE when a call stopped it. */
int untar(struct untar *untar);

#endif
