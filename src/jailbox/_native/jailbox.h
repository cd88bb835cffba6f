/* jailbox.h - the contract between the library and its helper.
 *
 * It is also the cffi definition: build.py reads what stands between the two
 * markers, so nothing is declared twice.
 *
 * WHO TALKS TO WHOM
 *
 *   host ----- keeper socket -----> keeper     PREPARE, START, KILL
 *   host <---- channel of a jail -> init       REPORT, READY, STARTED, EXITED
 *                                              EXEC, SIGNAL
 *   host <---- the same channel --- keeper     GONE, then end of file
 *   visitor -- socket in a file --> keeper     the same, of a detached jail:
 *                                              passed on to init and back
 *   host <---- channel of an exec > monitor    STARTED, EXITED, SIGNAL
 *   host ----- keeper socket -----> keeper     WORK, done by a child of it
 *   host <---- channel of a work -- worker     REPORT or WORKED
 *   host <---- the same channel --- keeper     GONE, then end of file
 *
 * All of them are SOCK_SEQPACKET pairs: a datagram is a message, it arrives
 * whole, and the end of file says that nobody is left at the other side.
 *
 * RECORDS  A message is one flat record.  What has no fixed size stands behind
 * the fixed part and is named by spans, offsets from the start of the record,
 * so that the record crosses a socket as it is.  Strings end with a NUL that
 * the span does not count.  Descriptors travel beside the record (SCM_RIGHTS)
 * and are named by their index there; -1 is none.
 *
 * IDS  Every uid and gid in a record is one of the jail's; whoever applies it
 * on a file system of the setup user namespace adds the base of the range. */
#ifndef JB_JAILBOX_H
#define JB_JAILBOX_H

#include <stddef.h>
#include <stdint.h>

/* cffi:begin */

#define JB_DETAIL_SIZE 256
#define JB_NAME_SIZE 64
#define JB_MESSAGE_SIZE 131072
#define JB_FDS_MAX 250
#define JB_SLOTS_MAX 600
#define JB_COLLECT_SIZE 512
#define JB_OVERLAYS_MAX 16
#define JB_PREPARED_MAX 256

enum jb_message {
  JB_MESSAGE_CONFIGURE = 1,
  JB_MESSAGE_START = 2,
  JB_MESSAGE_KILL = 3,
  JB_MESSAGE_EXEC = 4,
  JB_MESSAGE_SIGNAL = 5,
  JB_MESSAGE_LARGE = 6,
  JB_MESSAGE_PREPARE = 7,
  JB_MESSAGE_WORK = 8,
  JB_MESSAGE_REPORT = 16,
  JB_MESSAGE_READY = 17,
  JB_MESSAGE_STARTED = 18,
  JB_MESSAGE_EXITED = 19,
  JB_MESSAGE_GONE = 20,
  JB_MESSAGE_WORKED = 21
};

/* Where something was refused.  Python turns (step, errno) into words. */
enum jb_step {
  JB_STEP_NONE = 0,
  JB_STEP_SPAWN = 1,
  JB_STEP_RECORD = 2,
  JB_STEP_USERNS = 3,
  JB_STEP_IDMAP = 4,
  JB_STEP_TEMPLATE = 5,
  JB_STEP_CGROUP = 6,
  JB_STEP_CLONE = 7,
  JB_STEP_LIFE = 8,
  JB_STEP_CGROUP_JOIN = 9,
  JB_STEP_FS = 10,
  JB_STEP_TREE = 11,
  JB_STEP_OVERLAY = 12,
  JB_STEP_ENTER = 13,
  JB_STEP_LOOPBACK = 14,
  JB_STEP_ROOT = 15,
  JB_STEP_ATTACH = 16,
  JB_STEP_DIR = 17,
  JB_STEP_LINK = 18,
  JB_STEP_NODE = 19,
  JB_STEP_FILE = 20,
  JB_STEP_MASK = 21,
  JB_STEP_READONLY = 22,
  JB_STEP_SYSCTL = 23,
  JB_STEP_HOSTNAME = 24,
  JB_STEP_KEYRING = 25,
  JB_STEP_IDENTITY = 26,
  JB_STEP_FORK = 27,
  JB_STEP_TTY = 28,
  JB_STEP_STDIO = 29,
  JB_STEP_RLIMIT = 30,
  JB_STEP_PRIORITY = 31,
  JB_STEP_CHDIR = 32,
  JB_STEP_CAPABILITIES = 33,
  JB_STEP_NO_NEW_PRIVS = 34,
  JB_STEP_LANDLOCK = 35,
  JB_STEP_SECCOMP = 36,
  JB_STEP_EXEC = 37,
  JB_STEP_WORK = 38
};

/* Why a program ended, as far as its supervisor brought it about. */
enum jb_reason {
  JB_REASON_NONE = 0,
  JB_REASON_WALL = 1,
  JB_REASON_CPU_TIME = 2,
  JB_REASON_TIMEOUT = 3,
  JB_REASON_ABANDONED = 4
};

struct jb_span {
  uint32_t offset;
  uint32_t length;
};

/* ---- host to keeper ---- */

#define JB_CONFIGURE_ROOTLESS 1u /* enter a base user namespace first */
#define JB_CONFIGURE_SUBUID 2u   /* ... whose maps the set-id tools write */
#define JB_CONFIGURE_OUTLIVE 4u  /* do not watch the host process */

struct jb_configure {
  uint32_t message;
  uint32_t size;
  uint32_t flags;
  uint32_t uid; /* of the caller, for a single-id map */
  uint32_t gid;
  uint32_t id_first;        /* rootful: first id of the first range */
  uint32_t id_ranges;       /* rootful: how many ranges of 65536 there are */
  uint32_t id_count;        /* ids of a jail: 65536, or 1 */
  struct jb_span lock_path; /* rootful: file whose bytes lock the ranges */
  struct jb_span uid_map;   /* arguments of newuidmap after the pid */
  struct jb_span gid_map;
  struct jb_span newuidmap; /* absolute paths of the set-id tools */
  struct jb_span newgidmap;
  struct jb_span parents; /* struct jb_group[]: made now, removed at the end */
  struct jb_span state;   /* file to remove at the end, or empty */
};

#define JB_GROUP_PLAIN 0u /* only made and written */
#define JB_GROUP_INTO 1u  /* the init is cloned into it (version 2) */
#define JB_GROUP_TASKS 2u /* the init writes itself into tasks (version 1) */
#define JB_GROUP_SHARED                                                        \
  4u /* may exist; path is whole, and only the keeper's
                              end removes it */

struct jb_group {
  struct jb_span path;     /* a directory; a jail's own appends "/<name>" */
  struct jb_span settings; /* struct jb_setting[] */
  uint32_t flags;
  uint32_t reserved;
};

struct jb_setting {
  struct jb_span file;
  struct jb_span value;
};

/* A file of a group that is read when the jail has ended. */
struct jb_collect {
  uint32_t group; /* index in groups */
  uint32_t reserved;
  struct jb_span file;
};

#define JB_PROGRAM_TTY 1u   /* a terminal of the jail's own devpts */
#define JB_PROGRAM_AGENT 2u /* not a program: serve files on fd 3 */
#define JB_PROGRAM_NO_NEW_PRIVS 4u
#define JB_PROGRAM_KEEP_GROUPS 8u /* setgroups is denied in a one-id map */
#define JB_PROGRAM_MAKE_CWD 16u
#define JB_PROGRAM_LOG 32u   /* init writes the output to a log */
#define JB_PROGRAM_QUIET 64u /* nobody waits for STARTED */

struct jb_rlimit {
  uint32_t resource;
  uint32_t reserved;
  uint64_t soft;
  uint64_t hard;
};

struct jb_program {
  uint32_t flags;
  uint32_t argc; /* 0: no program */
  uint32_t envc;
  uint32_t umask;
  struct jb_span argv; /* argc strings, one behind the other */
  struct jb_span env;
  struct jb_span path; /* directories to search, as in PATH */
  struct jb_span cwd;
  uint32_t uid;
  uint32_t gid;
  struct jb_span groups; /* uint32_t[] */
  uint64_t cap_bounding;
  uint64_t cap_permitted;  /* also effective; only kept by uid 0 */
  uint64_t cap_ambient;    /* also inheritable */
  struct jb_span rlimits;  /* struct jb_rlimit[] */
  struct jb_span seccomp;  /* struct sock_filter[] */
  struct jb_span landlock; /* struct landlock_ruleset_attr, of a START: the
                              whole jail is one domain */
  struct jb_span affinity; /* a cpu mask, or empty */
  int32_t channel;         /* descriptor indices, -1: none */
  int32_t in;              /* -1: the jail's /dev/null */
  int32_t out;
  int32_t err;
  int32_t pass_first; /* further descriptors, from number 3 upwards */
  int32_t pass_count;
  int32_t nice;
  uint32_t fail_step;  /* test builds: this step is refused ... */
  uint64_t timeout_ns; /* 0: none */
  uint16_t rows;
  uint16_t columns;
  int32_t overlay;     /* AGENT: which overlay's layer it may compare, or -1 */
  int32_t log;         /* LOG: the file, made of struct jb_log_entry */
  uint32_t fail_errno; /* ... with this */
  uint64_t log_limit;  /* LOG: bytes of output that are kept */
};

/* What a log consists of; *size* bytes of output follow each. */
struct jb_log_entry {
  uint64_t time_ns; /* of the real-time clock */
  uint32_t stream;  /* 1: stdout, 2: stderr, 3: the log is full from here on */
  uint32_t size;
};

#define JB_START_USERNS 1u /* programs get a user namespace of their own */
#define JB_START_NET 2u    /* ... and a network with nothing but loopback */
#define JB_START_LAYER                                                         \
  4u /* READY carries the writable layer; the ids stay
                                the jail's until it is released */
#define JB_START_KEYRING 8u
#define JB_START_AHEAD                                                         \
  16u /* another one like it may be made before it is asked for */

struct jb_start {
  uint32_t message;
  uint32_t size;
  uint64_t id;             /* chosen by the host, names the jail in KILL */
  char name[JB_NAME_SIZE]; /* of the cgroups; NUL-terminated */
  uint32_t flags;
  uint32_t fds;        /* descriptors beside the record */
  uint64_t namespaces; /* CLONE_NEW* besides pid, user, mount, network,
                               ipc and uts */
  int32_t channel;
  int32_t layer_slot;     /* slot of the writable layer, or -1 */
  struct jb_span groups;  /* struct jb_group[] */
  struct jb_span collect; /* struct jb_collect[] */
  struct jb_span ops;     /* struct jb_op[] */
  struct jb_span hostname;
  struct jb_span domainname;
  uint64_t wall_ns; /* bounds of the whole jail, 0: none */
  uint64_t cpu_ns;
  int32_t cpu_group;    /* group whose usage is watched, -1: own children */
  uint32_t cpu_unit_ns; /* nanoseconds of one unit in that file */
  struct jb_span cpu_file;
  struct jb_span cpu_key; /* "usage_usec " in cpu.stat, or empty */
  uint64_t init_bounding; /* capabilities init keeps in its bounding set */
  uint32_t cpus;          /* how many the jail may use at once */
  uint32_t fail_step;     /* test builds: this step is refused ... */
  uint32_t fail_errno;    /* ... with this errno */
  int32_t oom_score_adj;  /* of everything in it, 0: as the keeper's */
  int32_t listener;       /* a keeper that outlives its host: descriptor of */
  int32_t hold;           /* the socket for visitors, our end of channel, */
  int32_t home;           /* and the directory for the record of the end; */
  int32_t lease;          /* what keeps its image from being removed, or -1 */
  uint32_t common;        /* AHEAD: bytes behind the fixed part that say
                             nothing of the program: equal in every START of
                             its kind */
  uint32_t reserved;
  struct jb_program program;
};

/* What is mounted and made, in order.  A slot is a numbered place for a
 * descriptor: what one operation makes, a later one uses. */
enum jb_op_kind {
  JB_OP_FS = 1,        /* slot = new file system of type path, options data */
  JB_OP_TREE = 2,      /* slot = clone of the tree at descriptor source */
  JB_OP_OVERLAY = 3,   /* slot = overlay of slots data on layer source */
  JB_OP_ENTER = 4,     /* a mount namespace of its own, with nothing in it */
  JB_OP_ROOT = 5,      /* slot becomes the root */
  JB_OP_ATTACH = 6,    /* slot is mounted at path of the root */
  JB_OP_DIR = 7,       /* directory path, in slot or (-1) in the root */
  JB_OP_LINK = 8,      /* symbolic link path -> data */
  JB_OP_NODE = 9,      /* device node path */
  JB_OP_FILE = 10,     /* file path with content data */
  JB_OP_MASK = 11,     /* path reads as empty */
  JB_OP_READONLY = 12, /* path becomes read-only */
  JB_OP_SYSCTL = 13,   /* path below /proc/sys, value data; slot is a procfs */
  JB_OP_NAMESPACES = 14, /* own namespaces but that of mounts */
  JB_OP_OPEN = 15,       /* slot = what is at path now, in slot source or (-1)
                            in the root */
  JB_OP_TAKE = 16,       /* slot = descriptor source, as it is */
  JB_OP_GRAFT = 17,      /* tree source is mounted at path of the tree slot */
  JB_OP_STAGE = 18,      /* begin a place where layers have names */
  JB_OP_STRIKE = 19,     /* end it; nothing of it is left */
  JB_OP_BACK = 20,       /* the host's mounts are in sight once more ... */
  JB_OP_FORTH = 21       /* ... and out of it again */
};

#define JB_OP_RECURSIVE 1u /* TREE: with what is mounted below */
#define JB_OP_IDMAP 2u     /* TREE: ids of the jail stand for the host's */
#define JB_OP_MAKE_DIR 4u  /* ATTACH: make the target when it is missing */
#define JB_OP_MAKE_FILE 8u
#define JB_OP_STRICT 16u     /* ATTACH: no symbolic link on the way */
#define JB_OP_OPTIONAL 32u   /* a path that does not exist is no failure */
#define JB_OP_USERXATTR 64u  /* OVERLAY: in a user namespace */
#define JB_OP_VOLATILE 128u  /* OVERLAY: nothing is synced */
#define JB_OP_REDIRECT 256u  /* OVERLAY: directories may be renamed */
#define JB_OP_REUSE 512u     /* OVERLAY: the layer was used before */
#define JB_OP_PREPARED 1024u /* TREE: source is the number of a PREPARE */
#define JB_OP_STACK                                                            \
  2048u /* OVERLAY: data ends with a slot and a count: the lowest layers are   \
           what is mounted at "0", "1", ... of the tree in that slot */
#define JB_OP_BY_NAME 4096u /* OVERLAY: layers get names on the stage */
#define JB_OP_LAYER                                                            \
  8192u /* TREE, TAKE: the writable layer; with IDMAP, what is made in it is    \
           made as the jail's root */
#define JB_OP_RETURN 16384u /* ENTER: a BACK will follow */
#define JB_OP_FROM_SLOT                                                        \
  32768u /* TREE: of what is in the slot source, which is also what is given   \
            back of a layer */

struct jb_op {
  uint32_t kind;
  uint32_t flags;
  int32_t slot;
  int32_t source;
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint32_t over; /* OVERLAY: one more than the slot of a layer of ours above the
                      image's, 0: none */
  uint64_t attr; /* MOUNT_ATTR_* */
  uint64_t number; /* NODE: the device.  MASK: a slot.  OVERLAY: 1 + the slot
                      for its layers without the writable one, or 0 */
  struct jb_span path;
  struct jb_span data;
};

/* Stands for a record that is larger than a datagram may be: the record is
 * the content of a memfd, the last of the descriptors. */
struct jb_large {
  uint32_t message;
  uint32_t size;
};

/* A tree that many jails share, built once by the operations that need no
 * jail, and kept by the keeper: slot 0 of ops.  Answered on its channel by
 * READY or REPORT. */
struct jb_prepare {
  uint32_t message;
  uint32_t size;
  uint32_t number; /* from 0, below JB_PREPARED_MAX */
  int32_t channel;
  struct jb_span ops;
};

/* End a jail; number 0: those that were made before they were asked for.
 * With *release* it is also forgotten: what a jail with a layer
 * keeps beyond its end, its range of ids, is free again. */
struct jb_kill {
  uint32_t message;
  uint32_t release;
  uint64_t id;
};

/* Work on files of the host that no jail has to do with: worker.h says how.
 * The tree becomes the root of the worker; what it does there is the kind. */
enum jb_work_kind {
  JB_WORK_UNPACK = 1,      /* a tar stream becomes the tree */
  JB_WORK_REMOVE = 2,      /* *name* in the tree, with everything below */
  JB_WORK_MEASURE = 3,     /* how much room the tree takes */
  JB_WORK_PACK = 4,        /* the tree becomes a tar stream */
  JB_WORK_FINGERPRINT = 5, /* what the tree consists of */
  JB_WORK_KINDS = 6
};

#define JB_WORK_MERGE 1u    /* the root is an overlay; tree has its halves */
#define JB_WORK_READONLY 2u /* the tree is only read */
#define JB_WORK_ONE_ID 4u   /* there is no owner but one: others are noted */
#define JB_WORK_DEVICES 8u  /* UNPACK: device nodes are made, not skipped */
#define JB_WORK_BOTTOM 16u  /* UNPACK: nothing lies below the tree */
#define JB_WORK_UNENDED 32u /* UNPACK: the end marks may be missing */

struct jb_work {
  uint32_t message;
  uint32_t size;
  uint32_t kind; /* enum jb_work_kind */
  uint32_t flags;
  uint32_t fds; /* descriptors beside the record */
  int32_t channel;
  int32_t tree;
  int32_t stream; /* what is read or written, or -1 */
  int32_t notes;  /* file for struct jb_note, or -1 */
  int32_t lowers; /* first of them, uppermost first, or -1 */
  uint32_t lower_count;
  uint32_t reserved2;
  uint64_t max_bytes;   /* 0: no bound */
  uint64_t max_entries; /* likewise */
  uint32_t max_depth;   /* likewise */
  uint32_t fail_step;   /* test builds: this step is refused ... */
  uint32_t fail_errno;  /* ... with this errno */
  uint32_t reserved;
  struct jb_span name;    /* MERGE: of the upper directory, in tree */
  struct jb_span space;   /* MERGE: of an empty directory beside it */
  struct jb_span options; /* of the kind, for the kind */
};

/* ---- host to init and to monitors ---- */

struct jb_exec {
  uint32_t message;
  uint32_t size;
  uint32_t fds;
  uint32_t reserved;
  struct jb_program program;
};

struct jb_signal {
  uint32_t message;
  int32_t signal;
  uint32_t tree; /* 0: the program; 1: everything it started */
  uint32_t reserved;
};

/* ---- answers ---- */

struct jb_report {
  uint32_t message;
  int32_t step;
  int32_t error;
  int32_t index; /* which op, group, path ...; -1 */
  char detail[JB_DETAIL_SIZE];
};

struct jb_ready {
  uint32_t message;
  uint32_t reserved;
  uint32_t id_base; /* first host id of the range, as init's parent sees it */
  uint32_t id_count;
};

struct jb_started {
  uint32_t message;
  int32_t pid; /* inside the jail */
};

struct jb_exited {
  uint32_t message;
  int32_t status; /* as of wait(2) */
  int32_t reason; /* enum jb_reason */
  uint32_t disk_full;
  uint64_t user_ns; /* of the program and what it waited for */
  uint64_t system_ns;
  uint64_t max_rss;
  uint64_t wall_ns;
};

struct jb_gone {
  uint32_t message;
  int32_t status;   /* of init */
  uint64_t user_ns; /* of everything that ran in the jail */
  uint64_t system_ns;
  uint64_t max_rss;
  int32_t cleanup_errno; /* a group that could not be removed */
  uint32_t collected;
  uint32_t lengths[16];
  char texts[16 * JB_COLLECT_SIZE]; /* what was read, one behind the other */
};

/* Why a worker gave up.  Python turns reasons into words. */
enum jb_work_reason {
  JB_WORK_DONE = 0,
  JB_WORK_SYSTEM = 1,     /* the kernel refused: *error* */
  JB_WORK_STREAM = 2,     /* reading or writing the stream failed: *error* */
  JB_WORK_TRUNCATED = 3,  /* the archive ends in the middle of something */
  JB_WORK_CHECKSUM = 4,   /* of a header */
  JB_WORK_NUMBER = 5,     /* a field is no number, or out of range */
  JB_WORK_NAME = 6,       /* a name that names nothing that can be made */
  JB_WORK_PAX = 7,        /* an extended header is malformed */
  JB_WORK_PAX_SIZE = 8,   /* ... or too large */
  JB_WORK_SPARSE = 9,     /* a map of holes is malformed */
  JB_WORK_TYPE = 10,      /* a kind of entry that nobody knows */
  JB_WORK_LINK = 11,      /* a hard link to what is not there */
  JB_WORK_ROOT = 12,      /* the root cannot be anything but a directory */
  JB_WORK_WHITEOUT = 13,  /* a mark for nothing, "." or ".." */
  JB_WORK_PARENT = 14,    /* a parent is no directory */
  JB_WORK_MAX_BYTES = 15, /* bounds that were given */
  JB_WORK_MAX_ENTRIES = 16,
  JB_WORK_MAX_DEPTH = 17,
  JB_WORK_MAX_NOTES = 18,
  JB_WORK_MAX_LINKS = 19, /* hard links to what comes later, or may not */
  JB_WORK_CHANGED = 20,   /* PACK: something changed while it was read */
  JB_WORK_MARK = 21       /* PACK: what no layer can say: *error* */
};

#define JB_WORK_DETAIL_SIZE 4096

#define JB_WORKED_NEEDS_LOWERS 1u /* UNPACK: an entry is about what is below */
#define JB_WORKED_ENDED 2u        /* UNPACK: the archive said that it ends */

struct jb_worked {
  uint32_t message;
  int32_t reason; /* enum jb_work_reason */
  int32_t error;  /* errno, or 0 */
  uint32_t flags;
  uint64_t entry;   /* UNPACK: the entry in question, from 0 */
  uint64_t entries; /* what was done, also when it failed */
  uint64_t bytes;
  uint64_t numbers[4];  /* of the kind */
  uint64_t resident;    /* memory at the end, in bytes */
  uint32_t detail_size; /* a path, of any bytes, without a NUL */
  uint32_t reserved;
  char detail[JB_WORK_DETAIL_SIZE];
};

/* What was left out, or could not be said on the file system.  Path and text
 * follow; the next note stands behind them. */
enum jb_note_kind {
  JB_NOTE_OWNER = 1,  /* the owner that the file should have, and its mode */
  JB_NOTE_DEVICE = 2, /* a node that was not made */
  JB_NOTE_XATTR = 3,  /* an attribute that was not set; the text is its name */
  JB_NOTE_IGNORED = 4 /* an entry that means nothing here */
};

/* The options of PACK and FINGERPRINT; a table of owners (pack.h) follows. */
struct jb_pack_options {
  uint32_t flags; /* JB_PACK_* */
  uint32_t tree_base;
  uint32_t lower_base;
  uint32_t reserved;
  int64_t epoch; /* seconds */
};

struct jb_note {
  uint32_t kind; /* enum jb_note_kind */
  uint32_t mode; /* with the type of the file */
  uint32_t uid;
  uint32_t gid;
  uint32_t major;
  uint32_t minor;
  uint32_t path_size;
  uint32_t text_size;
};

/* ---- functions of the extension ---- */

/* Start the keeper.  *config* is a whole jb_configure record; *lock* is a
 * descriptor that the keeper keeps open for as long as it lives.  On success
 * the socket to it is returned (owned by the caller) and *pidfd* holds its
 * pidfd; on failure -1, and *report* says why. */
int jb_keeper_spawn(const void *config, size_t size, int host_pidfd, int lock,
                    int *pidfd, struct jb_report *report);

/* Send one record with descriptors beside it; -errno or 0. */
int jb_send(int socket, const void *record, size_t size, const int *fds,
            size_t count);

/* Receive one message and at most *room* descriptors (*count* of them came);
 * its length, 0 at the end of file, or -errno.  Never blocks. */
long jb_receive(int socket, void *buffer, size_t size, int *fds, size_t room,
                size_t *count);

/* Open *path* below the directory *root* as if that were "/", whatever links
 * are on the way; a descriptor owned by the caller, or -errno. */
int jb_open_in_root(int root, const char *path, int flags);

/* Wait until everything written to the file system of *fd* is on the disk; 0 or
 * -errno.  Other than sync(2), it tells of errors (since 5.8). */
int jb_sync_filesystem(int fd);

/* The Landlock version of this kernel, or -errno. */
int jb_landlock_abi(void);

const char *jb_version(void);

/* cffi:end */

#endif
