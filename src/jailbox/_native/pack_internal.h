/* pack_internal.h - what the files pack*.c share.
 *
 *   pack.c         the walk: what is written, in which order
 *   pack_tar.c     headers of entries
 *   pack_file.c    bytes to the pipe: content, holes, padding
 *   pack_memory.c  names of directories, sorted; hard links; owners
 *
 * RULES  Those of tree_internal.h, but one: how much memory is needed depends
 *        on the tree, so there are regions that grow, up to a bound. */
#ifndef JB_PACK_INTERNAL_H
#define JB_PACK_INTERNAL_H

#include "tree_internal.h"

#include "pack.h"

#define PACK_BLOCK ((size_t)512)
#define PACK_OUT ((size_t)1024 * 1024)
/* A smaller file is read by one call; so much of a hole is written by one. */
#define PACK_PART ((size_t)64 * 1024)
#define PACK_LIST ((size_t)32 * 1024)
#define PACK_PATH_MAX TREE_PATH
#define PACK_PAX_MAX ((size_t)1024 * 1024)
/* Of each region; some ten million names. */
#define PACK_REGION_MAX ((size_t)512 * 1024 * 1024)
/* Directories above this level stay open; below, ".." leads back. */
#define PACK_OPEN_LEVELS 128
/* How deep an upper may run beside a lower: each level keeps two open. */
#define PACK_LAYER_DEPTH 1000

/* Memory that may move when it grows: offsets are kept, never pointers. */
struct pack_region {
  uint8_t *at;
  size_t size;
  size_t used;
};

/* Room for *more* bytes at used: 0 or -errno. */
long pack_region_need(struct pack_region *region, size_t more);
void pack_region_free(struct pack_region *region);

/* ---- names ---- */

/* A directory's names in a region, sorted by bytes: for each a byte of type,
 * the name and a NUL. */
struct pack_names {
  size_t begin; /* of the region, to be given back */
  size_t order; /* uint32_t offsets from begin */
  uint32_t count;
  uint32_t next;
};

long pack_names_read(struct pack_region *region, int fd, char *dents,
                     struct pack_names *names);
/* Valid until the region grows. */
static inline const char *pack_name(const struct pack_region *region,
                                    const struct pack_names *names,
                                    uint32_t index, unsigned *type)
{
  uint32_t at;
  memcpy(&at, region->at + names->order + index * sizeof(at), sizeof(at));
  const uint8_t *record = region->at + names->begin + at;
  *type = *record;
  return (const char *)record + 1;
}

/* ---- hard links ---- */

struct pack_links {
  struct pack_region table; /* struct pack_link, a power of two of them */
  struct pack_region paths;
  size_t count;
};

/* The path that an inode was first written as, or NULL after it has been
 * remembered; *error when there is no memory. */
const char *pack_links_seen(struct pack_links *links, const struct statx *stat,
                            const struct tree_path *path, size_t *size,
                            long *error);

/* ---- owners ---- */

struct pack_owners {
  const uint8_t *at;
  size_t size;
  size_t next;
};

/* The record of *path*, asked in the order of the walk. */
bool pack_owners_find(struct pack_owners *owners, const struct tree_path *path,
                      struct jb_pack_owner *found);

/* ---- entries ---- */

/* What the archive says of a path. */
struct pack_entry {
  const char *path;
  size_t path_size;
  const char *link;
  size_t link_size;
  uint64_t size;
  int64_t time_s;
  uint32_t time_ns;
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint32_t major;
  uint32_t minor;
  char type; /* of tar: '0' file, '1' link, '2' symlink, '3' to '6' */
  bool directory;
};

struct pack_dir {
  int fd;    /* -1: closed, ".." of the child leads back */
  int lower; /* -1: nothing below shows through */
  uint64_t inode;
  uint64_t device;
  struct pack_names names;
  size_t path_size;
  bool written; /* it has its entry */
  bool marks;   /* empty files may be whiteouts */
};

struct pack {
  const struct jb_pack *job;
  struct jb_tree_report *report;
  struct jb_pack_notes *notes;
  struct tree_layer layer; /* for comparing */
  struct jb_tree_roots roots;
  struct tree_path path;
  struct pack_region dirs; /* struct pack_dir */
  size_t depth;
  struct pack_region names;
  struct pack_links links;
  struct pack_owners owners;
  size_t out_used;
  size_t pax_size;
  bool no_splice;
};

/* One mapping; only what is used gets pages. */
struct pack_space {
  struct pack pack;
  char path[PACK_PATH_MAX];
  char link[JB_TREE_LINK_MAX + 1];
  char work[PACK_PATH_MAX]; /* the path of a whiteout */
  char dents[PACK_LIST];
  uint8_t scratch[2 * TREE_SCRATCH]; /* for comparing */
  char xattrs[TREE_SCRATCH];         /* names */
  uint8_t value[TREE_SCRATCH];
  uint8_t pax[PACK_PAX_MAX];
  uint8_t zeros[PACK_PART]; /* never touched */
  uint8_t out[PACK_OUT];
};

static inline struct pack_space *pack_space(struct pack *pack)
{
  return (struct pack_space *)pack; /* its first member */
}

int pack_fail(struct pack *pack, int op, long error);
/* Say that something at the current path is left out. */
void pack_note(struct pack *pack);

/* Begin a pax header: attributes of an open file. */
int pack_pax_xattrs(struct pack *pack, int fd, uint32_t base);
/* Write the headers of an entry: 0 or -1. */
int pack_header(struct pack *pack, const struct pack_entry *entry);

int pack_flush(struct pack *pack);
/* Room for *size* bytes, at most PACK_OUT; NULL on failure. */
uint8_t *pack_room(struct pack *pack, size_t size);
int pack_bytes(struct pack *pack, const void *bytes, size_t size);
int pack_zeros(struct pack *pack, uint64_t size);
int pack_padding(struct pack *pack, uint64_t size);
/* Write the content of an open file, which *stat* describes. */
int pack_content(struct pack *pack, int fd, const struct statx *stat);

#endif
