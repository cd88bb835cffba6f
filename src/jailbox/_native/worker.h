/* worker.h - work on files of the host, in a process that can do nothing else.
 *
 * PROBLEM  Layers come from strangers.  Whoever unpacks one with the rights
 *          and the view of the host is one bug away from writing anywhere.
 * CHOICE   A child of the keeper for each piece of work.  The tree in question
 *          becomes its root, in a mount namespace where nothing else is; then
 *          it gives up every right that the work does not need, bounds what it
 *          may take, and allows itself a few dozen system calls.  When its
 *          channel closes, or the keeper dies, it is killed.  What kills it
 *          otherwise is told by the keeper: a crash here is nobody else's.
 *
 * A KIND OF WORK is one function, in the table of worker.c.  It finds what it
 * works on in *struct work*, looks names up below work->root only, and returns
 * 0, or -1 by work_fail() and its like.  What it counts stands in
 * work->worked; the frame sends that.  What it may call is the list in
 * worker.c: another system call kills it.
 *
 * FLOORS  sys.h < channel < worker.h < untar < unpack, remove, packing <
 *         worker < workers < keeper. */
#ifndef JB_WORKER_H
#define JB_WORKER_H

#include "channel.h"

struct work {
  const struct jb_work *order;
  struct record record;
  uint32_t kind;
  uint32_t flags;
  int channel;
  int stream;
  int notes;
  int root;  /* directory: the tree, or with MERGE the overlay */
  int upper; /* MERGE: the tree itself, else -1 */
  int lower; /* without MERGE: what was given as lowers, as one directory, read
                only; else -1 */
  uint64_t notes_size;
  struct jb_worked worked;
};

/* Each of these fills work->worked and returns -1. */
int work_fail(struct work *work, enum jb_work_reason reason, long error,
              const char *detail, size_t size);
int work_refused(struct work *work, long error, const char *detail);

/* Write one note, of at most *NOTES_MAX* bytes in all. */
int work_note(struct work *work, const struct jb_note *note, const char *path,
              const char *text);

/* Memory that lasts as long as the worker, or NULL: a failure has been noted
 * in work->worked then. */
void *work_memory(struct work *work, size_t size);

/* Remove *name* in *dir* with everything below; -errno.  Missing is removed.
 * (remove.c) */
long remove_all(struct work *work, int dir, const char *name);

/* The kinds of work. */
int work_unpack(struct work *work);
int work_remove(struct work *work);
int work_measure(struct work *work);
int work_pack(struct work *work);

/* ---- the frame ---- */

/* What a worker takes from its keeper. */
struct labor {
  struct record record;
  const int *fds;
  size_t fd_count;
  int template; /* mount namespace without the host's mounts */
  int keeper;   /* pidfd of the keeper */
  bool rootless;
};

/* worker.c: what the child does */
__attribute__((noreturn)) void worker_main(const struct labor *labor);

/* workers.c: what the keeper does */
#define WORKERS_MAX 64

struct workers {
  struct {
    int pid; /* 0: free */
    int pidfd;
    int channel;
  } at[WORKERS_MAX];
};

void workers_start(struct workers *workers, const struct labor *labor);
bool workers_reap(struct workers *workers, int pid, int status,
                  const struct jb_rusage *usage);
size_t workers_watch(const struct workers *workers, struct jb_pollfd *fds);
/* Kill those whose channel nobody listens to. */
void workers_look(const struct workers *workers, const struct jb_pollfd *fds,
                  size_t count);
void workers_kill(const struct workers *workers);
bool workers_idle(const struct workers *workers);

/* Where a mount of the host can be cloned from: *source* itself, or the same
 * file in our own copy of the host's mounts (ops.c).  *path* gets its name. */
long view_of(bool rootless, int source, char *path, size_t size);

/* resident.c: sums of our own page tables; opened where /proc is in sight. */
int resident_open(void);
/* Bytes of memory that we have now; 0 where that cannot be told. */
uint64_t resident_read(int fd);

#endif
