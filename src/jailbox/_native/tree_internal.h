/* tree_internal.h - what the files tree*.c share.
 *
 *   tree_wire.c    frames in and out of a socket
 *   tree_source.c  files -> frames            (agent GET, host send)
 *   tree_sink.c    frames -> files; removing  (agent PUT, host receive)
 *   tree_layer.c   the writable layer -> changes; comparing, also for pack.c
 *   tree.c         the agent: requests
 *   tree_job.c     the host side: jobs; only in the extension
 *
 * RULES  1. Raw system calls only, no libc, no static mutable data.
 *        2. All memory is one mapping per agent or job (struct tree_space);
 *           most of it is never touched.
 *        3. No recursion: depth is an array, and bounded.
 *        4. A function that can fail returns 0, or -1 with everything said in
 *           the report; the first failure stays.
 *        5. Frames stand unaligned in buffers: structures are copied out. */
#ifndef JB_TREE_INTERNAL_H
#define JB_TREE_INTERNAL_H

#include <stdbool.h>

#include "sys.h"
#include "tree.h"

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *at, int byte, size_t size);
int memcmp(const void *left, const void *right, size_t size);

#define JB_ENXIO 6
#define JB_EBADF 9
#define JB_ERANGE 34
#define JB_ENODATA 61
#define JB_EOVERFLOW 75
#define JB_ECANCELED 125

#define TREE_BUFFER ((size_t)256 * 1024)
/* A writer begins a frame only below this fill; so any frame fits. */
#define TREE_BUFFER_FULL (TREE_BUFFER / 2)
#define TREE_DENTS ((size_t)16 * 1024)
#define TREE_SCRATCH ((size_t)64 * 1024)
#define TREE_PATH ((size_t)JB_TREE_DEPTH_MAX * 256 + JB_TREE_PATH_MAX + 1)
#define TREE_TEMP_NAME 24
/* How often something may change under our hands before we give up. */
#define TREE_RACES 64

/* The type of a file as getdents64 spells it: the upper bits of its mode. */
#define TREE_DT(mode) (((mode) & S_IFMT) >> 12)

#define TREE_SEEK_SET 0
#define TREE_SEEK_DATA 3
#define TREE_SEEK_HOLE 4
#define TREE_RENAME_NOREPLACE 1u

/* An unfinished frame leaves this much room for its payload. */
#define TREE_ENTRY_MAX                                                         \
  (sizeof(struct jb_tree_frame) + sizeof(struct jb_tree_entry) +               \
   JB_TREE_NAME_MAX + JB_TREE_LINK_MAX + JB_TREE_XATTRS_MAX)
_Static_assert(TREE_ENTRY_MAX < TREE_BUFFER - TREE_BUFFER_FULL, "entry");
/* One step may report two changes. */
#define TREE_LAYER_PATH_MAX ((size_t)32 * 1024)
_Static_assert(2 * (TREE_LAYER_PATH_MAX + (size_t)2 * JB_TREE_LINK_MAX +
                    sizeof(struct jb_tree_change) + 8) <
                 TREE_BUFFER - TREE_BUFFER_FULL,
               "change");
_Static_assert(JB_TREE_DATA_MAX + sizeof(struct jb_tree_frame) <= TREE_BUFFER,
               "data");

/* ---- failing ---- */

/* A path under construction, for reports and patterns. */
struct tree_path {
  char *text; /* TREE_PATH bytes, not NUL-terminated */
  size_t size;
};

/* Remember what failed, unless something did already.  Returns -1. */
int tree_fail(struct jb_tree_report *report, int op, long error,
              const char *detail, size_t size);
int tree_fail_bound(struct jb_tree_report *report, int bound,
                    const struct tree_path *path);

/* Append a component; returns the size before, for tree_path_cut. */
size_t tree_path_add(struct tree_path *path, const char *name, size_t size);

/* ---- frames ---- */

struct tree_wire {
  int sock;
  int flags; /* JB_MSG_DONTWAIT on the host side */
  uint8_t *in;
  size_t in_at;
  size_t in_end;
  uint8_t *out;
  size_t out_at;
  size_t out_end;
};

/* Send what there is, as far as the socket takes it: 0 when nothing is left,
 * -EAGAIN, or another -errno. */
long tree_wire_send(struct tree_wire *wire);
/* Receive once: 1, 0 at the end of file, -EAGAIN, or another -errno. */
long tree_wire_receive(struct tree_wire *wire);
/* The same for a process that may wait. */
long tree_wire_flush(struct tree_wire *wire);
/* 1 and the next frame, which stays until tree_wire_drop; 0 when it is not
 * complete; -EPROTO when it never can be. */
int tree_wire_peek(const struct tree_wire *wire, struct jb_tree_frame *frame,
                   const uint8_t **payload);
void tree_wire_drop(struct tree_wire *wire, const struct jb_tree_frame *frame);
/* Wait for the next frame: 1, 0 at the end of file, or -errno. */
long tree_wire_next(struct tree_wire *wire, struct jb_tree_frame *frame,
                    const uint8_t **payload);

static inline bool tree_wire_full(const struct tree_wire *wire)
{
  return wire->out_end >= TREE_BUFFER_FULL;
}

/* Where the payload of the next frame goes; tree_wire_end makes it one. */
static inline uint8_t *tree_wire_begin(struct tree_wire *wire)
{
  return wire->out + wire->out_end + sizeof(struct jb_tree_frame);
}

void tree_wire_end(struct tree_wire *wire, uint32_t type, size_t size);

/* An entry of a frame, its parts found and checked. */
struct tree_entry {
  struct jb_tree_entry fixed;
  const char *name;
  const char *link;
  const uint8_t *xattrs;
};

/* False when the payload is not what an entry must be. */
bool tree_entry_parse(struct tree_entry *entry, const uint8_t *payload,
                      size_t size);
bool tree_name_ok(const char *name, size_t size);
/* Is this a type of file and permission bits, and nothing else? */
bool tree_mode_ok(uint32_t mode);

/* ---- reading directories ---- */

struct tree_list {
  int fd;
  uint32_t at;
  uint32_t end;
  char *dents; /* TREE_DENTS bytes */
};

struct tree_dirent {
  const char *name; /* NUL-terminated */
  size_t size;
  unsigned type;
};

/* 1 and the next entry but "." and "..", 0 at the end, or -errno. */
long tree_list_next(struct tree_list *list, struct tree_dirent *entry);

/* ---- files -> frames ---- */

struct tree_notes {
  char *text;
  size_t size;
  size_t room;
};

struct tree_source_dir {
  struct tree_list list;
  size_t path_size; /* with its own name */
};

struct tree_source {
  struct tree_wire *wire;
  struct jb_tree_report *report;
  struct tree_notes *notes; /* on the host: specials are noted, not sent */
  struct tree_source_dir *dirs;
  char *dents; /* JB_TREE_DEPTH_MAX times TREE_DENTS */
  uint8_t *scratch;
  const char *excludes;
  size_t excludes_size;
  struct jb_tree_limits limits;
  uint32_t flags; /* of the request */
  uint32_t wanted_depth;
  struct tree_path path;
  uint32_t depth;
  int file; /* being read, or -1 */
  bool sparse;
  bool endless; /* its size is not known */
  uint64_t offset;
  uint64_t data_end;
  uint64_t size;
  bool started;
};

/* Where the top is looked up. */
struct tree_place {
  int dir;
  const char *path;
  uint64_t resolve; /* for openat2 */
};

/* Send the top, called *name*; room for an entry is needed. */
int tree_source_begin(struct tree_source *source,
                      const struct tree_place *place, const char *name,
                      size_t name_size);
/* Send a little more, with room for an entry: 1, 0 when all is sent, -1. */
int tree_source_step(struct tree_source *source);
void tree_source_close(struct tree_source *source);

/* openat2, also when the tree is being rearranged. */
long tree_open(const struct tree_place *place, uint64_t flags);
void tree_entry_fill(struct jb_tree_entry *entry, const struct statx *stat);
bool tree_excluded(const char *patterns, size_t patterns_size, const char *path,
                   size_t size);

/* ---- frames -> files ---- */

struct tree_sink_dir {
  int fd;
  bool fresh;    /* made by us: nothing in it is anybody else's */
  bool existing; /* it was there: its metadata is left alone */
  bool inherits; /* what is made in it gets a group or a mode from it */
  uint32_t mode;
  uint32_t time_ns;
  int64_t time_s;
  bool now;
  size_t path_size;               /* before its own name */
  char temporary[TREE_TEMP_NAME]; /* "": it has its name already */
};

struct tree_sink {
  struct jb_tree_report *report;
  struct tree_notes *notes;
  struct tree_sink_dir *dirs;
  struct tree_space *space; /* for undoing */
  struct jb_tree_limits limits;
  uint32_t flags; /* of the request */
  bool exact;     /* open() gives the mode that was asked for */
  bool set_owner;
  bool keep_setid;
  bool replace;
  bool force; /* undoing may change modes */
  uint32_t uid;
  uint32_t gid;
  uint32_t self_uid;
  uint32_t self_gid;
  int top;              /* directory that gets the top, borrowed */
  const char *top_name; /* NULL: the top is merged into *top* itself */
  bool taken;           /* the top has come */
  uint32_t depth;
  struct tree_path path;
  int file; /* being written, or -1 */
  bool file_open;
  bool file_fresh;
  bool file_owner;
  bool hole;
  uint32_t file_mode;
  uint32_t file_uid;
  uint32_t file_gid;
  uint32_t time_ns;
  int64_t time_s;
  bool now;
  uint64_t offset;
  size_t file_path_size;
  char temporary[TREE_TEMP_NAME];
};

/* Apply ENTRY, DATA, HOLE or END. */
int tree_sink_frame(struct tree_sink *sink, uint32_t type,
                    const uint8_t *payload, size_t size);
/* True when the top has come and is complete. */
bool tree_sink_complete(const struct tree_sink *sink);
/* Undo what has no final name yet, and close everything. */
void tree_sink_close(struct tree_sink *sink);

/* Remove *name* in *dir* with everything below.  *force* changes modes that
 * are in the way: only for what nobody else can rearrange. */
int tree_remove(struct tree_space *space, struct jb_tree_report *report,
                int dir, const char *name, bool force);

void tree_temporary(char name[TREE_TEMP_NAME]);

/* ---- changes ---- */

struct tree_layer_dir {
  struct tree_list list; /* the upper, then perhaps the lower */
  int upper;             /* -1: only in the lower */
  int lower;             /* -1: only in the upper */
  bool all_new;          /* reported as added, whatever the lower has */
  bool opaque;           /* nothing of the lower shows through */
  bool marks;            /* empty files may be whiteouts */
  bool second;           /* the list is the lower's */
  size_t path_size;      /* with its own name */
};

struct tree_layer {
  struct tree_wire *wire;
  struct jb_tree_report *report;
  struct tree_layer_dir *dirs;
  char *dents;
  uint8_t *scratch; /* two times TREE_SCRATCH */
  const struct jb_tree_roots *roots;
  struct jb_tree_limits limits;
  struct tree_path path;
  uint32_t depth;
};

/* Does the upper say that there is nothing called *name*? */
bool tree_layer_whiteout(const struct tree_layer *layer,
                         const struct tree_layer_dir *dir, const char *name,
                         const struct statx *stat);
/* The mark of an open directory that says "opaque", or "renamed". */
long tree_layer_mark(const struct tree_layer *layer, int fd, bool opaque,
                     char *value, size_t size);
/* Look at *name*: 1, 0 when it is not there, -1.  A link's target goes to the
 * half of the scratch memory called *half*. */
int tree_layer_look(struct tree_layer *layer, int dir, const char *name,
                    uint32_t base, struct statx *stat, size_t half,
                    size_t link_sizes[2]);
/* What differs between two things of one type; -1 on failure. */
int tree_layer_compare(struct tree_layer *layer,
                       const struct tree_layer_dir *dir, const char *name,
                       const struct statx *now, const struct statx *old,
                       size_t link_sizes[2]);
/* An id of the file system as the jail sees it. */
uint32_t tree_layer_id(uint32_t id, uint32_t base);

int tree_layer_begin(struct tree_layer *layer);
int tree_layer_step(struct tree_layer *layer);
void tree_layer_close(struct tree_layer *layer);

/* ---- memory ---- */

/* Everything an agent or a job needs; only what is used gets pages. */
struct tree_space {
  struct tree_wire wire;
  struct jb_tree_report report;
  struct tree_source source;
  struct tree_sink sink;
  struct tree_layer layer;
  struct tree_source_dir source_dirs[JB_TREE_DEPTH_MAX];
  struct tree_sink_dir sink_dirs[JB_TREE_DEPTH_MAX];
  struct tree_layer_dir layer_dirs[JB_TREE_DEPTH_MAX];
  char name[JB_TREE_NAME_MAX + 1];
  char first[JB_TREE_PATH_MAX + 1];
  char second[JB_TREE_PATH_MAX + 1];
  char work[2 * JB_TREE_PATH_MAX + 2];
  char path[TREE_PATH];
  uint8_t in[TREE_BUFFER];
  uint8_t out[TREE_BUFFER];
  uint8_t scratch[2 * TREE_SCRATCH];
  char notes[TREE_SCRATCH];
  char dents[JB_TREE_DEPTH_MAX * TREE_DENTS];
};

/* Map one, or give *error. */
struct tree_space *tree_space_make(size_t size, int *error);
void tree_space_wire(struct tree_space *space, int sock, int flags);
void tree_space_source(struct tree_space *space);
void tree_space_sink(struct tree_space *space);
struct jb_tree_limits tree_limits(const struct jb_tree_limits *wished);

/* ---- small things ---- */

static inline size_t tree_length(const char *text)
{
  size_t n = 0;
  while (text[n] != '\0')
    n++;
  return n;
}

static inline void tree_shut(int *fd)
{
  if (*fd >= 0)
    (void)sys_close(*fd);
  *fd = -1;
}

static inline long tree_stat(int dir, const char *name, struct statx *out)
{
  return sys_statx(dir, name,
                   AT_SYMLINK_NOFOLLOW | (*name == '\0' ? AT_EMPTY_PATH : 0),
                   STATX_BASIC_STATS, out);
}

#endif
