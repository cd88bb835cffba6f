/* tree.h - files between the host and a jail.
 *
 * PROBLEM  A jail rearranges its files while we copy them.  Whoever looks up a
 *          path of a jail with the rights of the host can be led out of it by
 *          a symbolic link that appears between two calls; whoever writes on
 *          the host what a jail says can be led anywhere.
 * CHOICE   Two sides and a stream.  The *agent* runs with the rights of the
 *          jail's root, inside it, and is the only one that looks up paths of
 *          the jail.  The *host side* only reads and writes below directories
 *          that the caller named, one component at a time, and treats every
 *          byte from the agent as hostile.  Between them is one SOCK_STREAM
 *          pair.  Both sides are this code, compiled twice.
 * REJECTED setns or chroot in the host process (threads, dlopen, /proc/self);
 *          tar (a parser more, no sparse map, no xattrs without dialects);
 *          /proc/PID/root (looked up with the host's rights).
 *
 * THE STREAM  Frames: type, size, payload; the byte order is the machine's.
 *
 *   request  := GET | PUT tree* FINISH | SET | MKDIR | REMOVE | RENAME
 *             | LINK | CHANGES
 *   tree     := ENTRY                    a link, or something not opened
 *             | ENTRY (DATA | HOLE)* END a file     (JB_TREE_OPEN in flags)
 *             | ENTRY tree* END          a directory (JB_TREE_OPEN in flags)
 *   reply    := (tree | CHANGE)* ANSWER
 *
 * Every request gets exactly one ANSWER.  A PUT that fails is answered at
 * once; the agent then skips what is still coming, up to FINISH.  Requests
 * follow each other on one connection; the end of file ends the agent, and
 * everything it had not finished is removed.
 *
 * NOTHING IS HALF THERE  A file is written under a temporary name and renamed
 * when it is complete; a new directory appears with everything in it, by one
 * rename.  What is merged into an existing directory appears piece by piece.
 * A file that something is mounted on cannot be replaced: it is written into.
 *
 * NAMES  are bytes: 1 to 255 of them, no '/', no NUL, not "." and not "..". */
#ifndef JB_TREE_H
#define JB_TREE_H

#include <stddef.h>
#include <stdint.h>

/* cffi:begin */

#define JB_TREE_NAME_MAX 255
#define JB_TREE_PATH_MAX 4095
#define JB_TREE_LINK_MAX 4095
#define JB_TREE_XATTRS_MAX 65536
#define JB_TREE_DATA_MAX 65536
#define JB_TREE_DEPTH_MAX 256
#define JB_TREE_DETAIL_SIZE 1024

enum jb_tree_type {
  JB_TREE_GET = 1,
  JB_TREE_PUT = 2,
  JB_TREE_SET = 3,
  JB_TREE_MKDIR = 4,
  JB_TREE_REMOVE = 5,
  JB_TREE_RENAME = 6,
  JB_TREE_LINK = 7,
  JB_TREE_CHANGES = 8,
  JB_TREE_ENTRY = 32,
  JB_TREE_DATA = 33,
  JB_TREE_HOLE = 34,
  JB_TREE_END = 35,
  JB_TREE_FINISH = 36,
  JB_TREE_CHANGE = 37,
  JB_TREE_ANSWER = 64
};

/* What was being done when something was refused. */
enum jb_tree_op {
  JB_TREE_OP_NONE = 0,
  JB_TREE_OP_RESOLVE = 1,
  JB_TREE_OP_OPEN = 2,
  JB_TREE_OP_STAT = 3,
  JB_TREE_OP_LIST = 4,
  JB_TREE_OP_READ = 5,
  JB_TREE_OP_READLINK = 6,
  JB_TREE_OP_CREATE = 7,
  JB_TREE_OP_WRITE = 8,
  JB_TREE_OP_REPLACE = 9,
  JB_TREE_OP_RENAME = 10,
  JB_TREE_OP_REMOVE = 11,
  JB_TREE_OP_OWNER = 12,
  JB_TREE_OP_MODE = 13,
  JB_TREE_OP_TIME = 14,
  JB_TREE_OP_XATTR = 15,
  JB_TREE_OP_BOUND = 16,
  JB_TREE_OP_PROTOCOL = 17,
  JB_TREE_OP_SOCKET = 18,
  JB_TREE_OP_CHANGED = 19, /* while it was read */
  JB_TREE_OP_MARK = 20     /* a name or a mark that a layer cannot hold */
};

enum jb_tree_bound {
  JB_TREE_BOUND_NONE = 0,
  JB_TREE_BOUND_ENTRIES = 1,
  JB_TREE_BOUND_BYTES = 2,
  JB_TREE_BOUND_DEPTH = 3
};

enum jb_tree_side {
  JB_TREE_SIDE_NONE = 0,
  JB_TREE_SIDE_HOST = 1,
  JB_TREE_SIDE_AGENT = 2
};

struct jb_tree_frame {
  uint32_t type;
  uint32_t size; /* of what follows */
};

/* Flags of requests. */
#define JB_TREE_FOLLOW 1u    /* a link at the end of the path is followed */
#define JB_TREE_DATA_TOO 2u  /* GET: with the content of files */
#define JB_TREE_XATTRS 4u    /* with extended attributes user.* */
#define JB_TREE_INTO 8u      /* PUT: a directory at path takes it as second */
#define JB_TREE_PARENTS 16u  /* missing directories are made */
#define JB_TREE_EXIST_OK 32u /* MKDIR: a directory may be there */
#define JB_TREE_NEW_ONLY 64u /* PUT, RENAME: nothing may be there */
#define JB_TREE_KEEP 128u    /* PUT: a replaced file leaves mode and owner */
#define JB_TREE_OWNER 256u   /* PUT, SET, MKDIR: uid and gid are meant */
#define JB_TREE_MODE 512u    /* SET: mode is meant */
#define JB_TREE_TIME 1024u   /* SET: time is meant */
#define JB_TREE_NOW 2048u    /* SET: the time is now */
#define JB_TREE_RECURSIVE 4096u  /* REMOVE: with everything below */
#define JB_TREE_MISSING_OK 8192u /* REMOVE: there may be nothing */
#define JB_TREE_DIRECTORY                                                      \
  16384u /* REMOVE: must be a directory, else must not */

/* Which of the agent's directories a GET is about. */
enum jb_tree_where { JB_TREE_ROOT = 0, JB_TREE_UPPER = 1, JB_TREE_LOWER = 2 };

#define JB_TREE_ALL 0xffffffffu /* GET: to any depth */

struct jb_tree_request {
  uint32_t flags;
  uint32_t where; /* enum jb_tree_where; GET only */
  uint32_t depth; /* GET: 0 the thing itself, 1 its children too, ... */
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  int64_t time_s;
  uint32_t time_ns;
  uint32_t path_size;
  uint32_t second_size; /* RENAME: new path; LINK: target; PUT: a name */
  uint32_t reserved;
  uint64_t max_bytes; /* GET: of content, 0: as the agent allows */
};

/* Flags of entries. */
#define JB_TREE_OPEN 1u     /* content follows, up to END */
#define JB_TREE_TIME_NOW 2u /* the time is not preserved */

struct jb_tree_entry {
  uint32_t mode; /* with the type of the file */
  uint32_t uid;
  uint32_t gid;
  uint32_t links;
  uint64_t size;
  uint64_t inode;
  uint64_t device;  /* major << 32 | minor, of the file system */
  uint64_t special; /* the same, of a device node */
  int64_t time_s;   /* of the last change of the content */
  uint32_t time_ns;
  uint32_t flags;
  uint32_t name_size;
  uint32_t link_size;
  uint32_t xattrs_size; /* (u32 name size, u32 value size, name, value)* */
  uint32_t reserved;
};

struct jb_tree_answer {
  int32_t op;    /* enum jb_tree_op */
  int32_t error; /* errno, 0: done */
  int32_t bound; /* enum jb_tree_bound */
  uint32_t detail_size;
  uint64_t entry; /* how many entries came before the one in question */
  uint64_t entries;
  uint64_t bytes;
};

struct jb_tree_finish {
  uint32_t abort; /* undo */
  uint32_t reserved;
};

enum jb_tree_kind {
  JB_TREE_ADDED = 1,
  JB_TREE_MODIFIED = 2,
  JB_TREE_REMOVED = 3
};

/* What is different about a modified file. */
#define JB_TREE_CONTENT 1u
#define JB_TREE_MODE_BITS 2u
#define JB_TREE_OWNERSHIP 4u
#define JB_TREE_MTIME 8u
#define JB_TREE_ATTRIBUTES 16u

struct jb_tree_change {
  uint32_t kind;
  uint32_t what;
  uint32_t path_size; /* path, now's link and old's link follow */
  uint32_t reserved;
  struct jb_tree_entry now; /* all zero when removed */
  struct jb_tree_entry old; /* all zero when added */
};

struct jb_tree_limits {
  uint64_t entries;
  uint64_t bytes; /* of content, holes counted */
  uint32_t depth; /* at most JB_TREE_DEPTH_MAX */
  uint32_t reserved;
};

struct jb_tree_report {
  int32_t op;
  int32_t error;
  int32_t bound;
  int32_t side; /* who refused: enum jb_tree_side */
  uint64_t entry;
  uint64_t entries; /* what was moved, also when it failed */
  uint64_t bytes;
  uint64_t skipped; /* devices, pipes and sockets left out */
  uint32_t detail_size;
  uint32_t reserved;
  char detail[JB_TREE_DETAIL_SIZE]; /* a path below the top, or of a request */
};

/* ---- the agent ---- */

#define JB_TREE_OWN_PROCESS 1u /* may set the umask of the process */
#define JB_TREE_USERXATTR 2u /* the overlay keeps its marks in user.overlay.* */

/* Descriptors are borrowed; -1: none, and requests for it are refused. */
struct jb_tree_roots {
  int32_t root;   /* "/" of every path; resolved by RESOLVE_IN_ROOT */
  int32_t upper;  /* the writable layer */
  int32_t lower;  /* what it lies on, as one directory */
  int32_t merged; /* what both show; only where marks cannot be read */
  uint32_t flags;
  uint32_t upper_base; /* subtracted from ids that are found there */
  uint32_t lower_base;
};

/* Serve requests on *sock* until it ends: 0, or -errno when the other side
 * broke the rules.  Requests on root want the identity of the jail's root;
 * requests on upper and lower want one that reads trusted.overlay.* (or
 * user.overlay.*, see the flag), and leave these directories by no link. */
int jb_tree_serve(int sock, const struct jb_tree_roots *roots,
                  const struct jb_tree_limits *limits);

/* ---- the host side ---- */

struct jb_tree_job;

/* Something to put that is in memory.  Directories are opened by an item and
 * closed by one of type 0. */
struct jb_tree_item {
  uint32_t mode; /* with the type of the file; 0: the end of a directory */
  uint32_t name_size;
  uint64_t data_size; /* of a link: its target */
  const char *name;
  const char *data;
  int64_t time_s;
  uint32_t time_ns;
  uint32_t flags; /* JB_TREE_TIME_NOW */
};

/* Local flags of a job. */
#define JB_TREE_KEEP_SETID 1u /* receive: set-id and sticky bits are kept */
#define JB_TREE_REPLACE 2u    /* receive: files and links may be replaced */
#define JB_TREE_WITH_XATTRS 4u

/* Each of these prepares one operation and does nothing yet.  *request* is a
 * whole request, frame included, and is copied; everything else is borrowed
 * until the job is freed.  NULL and *error when there is no memory.
 *
 *   ask      the frames of the reply are handed to the caller
 *   send     what is called *name* in *dir* is put; links are not followed;
 *            *excludes*: patterns, each ended by a NUL
 *   items    what is in memory is put
 *   receive  the reply becomes *name* in *dir* */
struct jb_tree_job *jb_tree_ask(int sock, const void *request, size_t size,
                                const struct jb_tree_limits *limits,
                                int *error);
struct jb_tree_job *
jb_tree_send(int sock, const void *request, size_t size, int dir,
             const char *name, const char *excludes, size_t excludes_size,
             uint32_t flags, const struct jb_tree_limits *limits, int *error);
struct jb_tree_job *jb_tree_send_items(int sock, const void *request,
                                       size_t size,
                                       const struct jb_tree_item *items,
                                       size_t count, int *error);
struct jb_tree_job *jb_tree_receive(int sock, const void *request, size_t size,
                                    int dir, const char *name, uint32_t flags,
                                    const struct jb_tree_limits *limits,
                                    int *error);

/* What jb_tree_step wants before it is called again. */
#define JB_TREE_DONE 0
#define JB_TREE_WANTS_READ 1
#define JB_TREE_WANTS_WRITE 2
#define JB_TREE_WANTS_TIME 4 /* nothing: there are frames, or enough is done */

/* Work until the socket would block, or for some 10 ms.  Never waits. */
int jb_tree_step(struct jb_tree_job *job);

/* What an ask has got since the step before: whole frames, all checked.  Valid
 * until the next step; to be fetched after every step, also the last. */
const void *jb_tree_frames(const struct jb_tree_job *job, size_t *size);

/* How it went; final after JB_TREE_DONE. */
const struct jb_tree_report *jb_tree_report(const struct jb_tree_job *job);

/* Paths that were left out, each ended by a NUL; as many as there was room
 * for. */
const char *jb_tree_skipped(const struct jb_tree_job *job, size_t *size);

/* Undo what is unfinished on this side and release everything. */
void jb_tree_free(struct jb_tree_job *job);

/* cffi:end */

#endif
