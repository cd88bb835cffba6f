/* pack.h - a directory becomes a tar archive that is the same every time.
 *
 * PROBLEM  A layer is named by the digest of its bytes.  So the same tree must
 *          give the same bytes: whatever the order of directories on the disk,
 *          the time, the name of the host, the number of inodes.
 * CHOICE   Depth first, each directory sorted by bytes; numeric owners and no
 *          names; times in whole seconds unless asked otherwise; plain ustar
 *          headers, with a pax header only before an entry that does not fit:
 *          what every reader of layers reads.  One pass, so the other end of
 *          the pipe hashes while we read.
 * REJECTED Sorting whole paths (needs all of them at once); GNU long names (a
 *          second dialect); sparse entries (half of the readers do not know
 *          one of their four forms: holes are written as zeros, and
 *          compressed); padding to 10240 (nobody reads it).
 *
 *   entry   := pax? header content padding
 *   archive := "./"? entry* two blocks of zeros
 *
 * A LAYER  is packed from the upper directory of an overlay: its marks become
 * the whiteouts of OCI (".wh.name", ".wh..wh..opq").  With a *lower* beside
 * it, what was copied up and is the same is left out, compared as changes()
 * compares (tree_layer.c); a directory around something that is written is
 * written, too.  The first of several hard links that is written carries the
 * content, so no entry depends on a layer below.
 *
 * BELIEVED is nothing but what was opened: a file that changes its size or
 * time while it is read is an error that names it. */
#ifndef JB_PACK_H
#define JB_PACK_H

#include "tree.h"

/* Flags of a packing. */
#define JB_PACK_LAYER 1u       /* marks user.overlay.* become whiteouts */
#define JB_PACK_EXACT_TIMES 2u /* nanoseconds, by pax headers */
#define JB_PACK_EPOCH 4u       /* no time is later than the epoch */
#define JB_PACK_ANY_NAME 8u    /* names that begin with ".wh." are names */

/* A record of the table of owners: what the archive shall say of a path,
 * whatever the file system could hold.  Sorted as the walk goes: by bytes,
 * with '/' before all others.  The path follows. */
struct jb_pack_owner {
  uint32_t path_size;
  uint32_t uid;
  uint32_t gid;
  uint32_t mode;  /* with the type when an empty file stands for a device */
  uint32_t major; /* of the device */
  uint32_t minor;
};

struct jb_pack {
  int32_t tree;  /* the directory, or the upper one */
  int32_t lower; /* what it lies on, as one directory; -1: not known */
  int32_t out;   /* a pipe or a file */
  uint32_t flags;
  uint32_t tree_base; /* subtracted from ids that are found there */
  uint32_t lower_base;
  uint32_t reserved;
  int64_t epoch;         /* seconds */
  const uint8_t *owners; /* struct jb_pack_owner, one behind the other */
  size_t owners_size;
  struct jb_tree_limits limits; /* 0: no bound; the depth is not bounded */
};

/* Where the paths of what was left out go, each ended by a NUL, as many as
 * there is room for; and how many bytes they are. */
struct jb_pack_notes {
  char *text;
  size_t room;
  size_t size;
};

/* Write the archive: 0, or -1 and the reason in *report*, which counts
 * entries, bytes of content and what was skipped either way.  Leaves neither
 * memory nor descriptors behind; SIGPIPE is the caller's to block. */
int jb_pack(const struct jb_pack *job, struct jb_tree_report *report,
            struct jb_pack_notes *notes);

#endif
