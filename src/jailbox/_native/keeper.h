/* keeper.h - what the roles of the helper share.
 *
 * FLOORS  sys.h < channel < ops, program < jail, supervisor < jails < ahead
 *         < keeper.  groups, userns, rooms, template and gate stand beside ops. */
#ifndef JB_KEEPER_H
#define JB_KEEPER_H

#include "channel.h"

#define KEEPER_SOCKET 3
#define KEEPER_HOST 4
#define KEEPER_LOCK 5 /* held for the eyes of others */

#define READY_MAX 4 /* of each kind of namespaces that are made ahead */

/* A user namespace that no jail has used yet. */
struct userns {
  int fd;
  uint32_t range; /* index of its range of ids, rootful only */
  uint32_t base;
};

/* Namespaces that need nothing of the jail they are for: as descriptors, so
 * that entering all of them costs a tenth of making them.  Each set is used
 * once.  net is -1 for a jail that shares the host's network. */
struct rooms {
  int net;
  int ipc;
  int uts;
};

struct ids {
  int keeper; /* its pidfd: what is made for a moment ends with it */
  bool rootless;
  uint32_t count; /* ids of a jail */
  uint32_t first; /* rootful: base of range 0 */
  uint32_t ranges;
  uint32_t next; /* where the search for a free range begins */
  int lock;      /* one description: its byte locks are the keeper's */
};

/* What a START became, as its child sees it: borrowed from the keeper. */
struct launch {
  struct record record;
  const struct jb_start *start; /* NULL: only a PREPARE */
  struct jb_span ops;
  const int *prepared; /* JB_PREPARED_MAX descriptors */
  const int *fds;      /* -1: one that comes with the START (gate) */
  size_t fd_count;
  int gate; /* where a jail that is made ahead waits for its START, or -1 */
  const int *tasks; /* v1 tasks files to write "0" to */
  size_t task_count;
  int cpu_file; /* what the cpu budget is read from, or -1 */
  int template; /* mount namespace without the host's mounts */
  int keeper;   /* pidfd of the keeper */
  struct userns userns;
  struct rooms rooms;
  bool own_rooms; /* it makes them itself */
  uint32_t id_count;
  bool rootless;
};

/* Test builds let a record say which step is to fail, so that every way out
 * can be walked. */
static inline bool fault(const struct launch *launch, enum jb_step step)
{
#ifdef JB_FAULTS
  return step != JB_STEP_NONE && launch->start != NULL &&
         launch->start->fail_step == (uint32_t)step;
#else
  (void)launch;
  (void)step;
  return false;
#endif
}

/* groups.c */
const char *group_path(const struct record *record,
                       const struct jb_group *group, const char *name,
                       char *buffer, size_t size);
/* Make one group; its descriptor, or -1 with *report*. */
int group_make(const struct record *record, const struct jb_group *group,
               const char *name, struct jb_report *report);
/* Remove groups, the last one first.  0, or what the first one left said. */
int groups_remove(const struct record *record, struct jb_span span,
                  const char *name, bool shared);

/* userns.c */
int ids_configure(struct ids *ids, int keeper,
                  const struct jb_configure *configure,
                  const struct record *record, struct jb_report *report);
int userns_make(struct ids *ids, struct userns *out, struct jb_report *report);
void userns_release(struct ids *ids, const struct userns *userns);

/* rooms.c */
int rooms_make(bool net, struct rooms *out, struct jb_report *report);
void rooms_close(struct rooms *rooms);
/* Make and enter them. */
int rooms_enter(bool net, struct jb_report *report);

/* template.c */
int template_make(int keeper, struct jb_report *report);

/* ops.c */
int ops_run(const struct launch *launch, int *slots, struct jb_report *report);

/* byname.c: overlays where layers cannot be given by descriptor */
struct byname {
  const int *lowers; /* detached mounts, the uppermost first */
  size_t count;
  const int *layer; /* NULL: nothing is written */
  const char *name; /* of the directories in the layer */
  uint32_t flags;   /* JB_OP_* */
  uint64_t attr;
};
long byname_begin(void);
/* Mount the layer in *place*; from here on *layer* is another descriptor. */
long byname_layer(int place, int *layer);
/* A detached overlay, or -errno. */
long byname_overlay(int place, const struct byname *wish);
long byname_end(int place);

/* program.c */
struct spawned {
  int pid;
  int terminal; /* master side, or -1 */
};
int program_spawn(const struct record *record, const struct jb_program *program,
                  const int *fds, uint64_t bounding, struct spawned *out,
                  struct jb_report *report);
int program_identity(const struct record *record,
                     const struct jb_program *program, uint64_t bounding,
                     struct jb_report *report);
uint64_t bounding_drop(uint64_t have, uint64_t keep);
long set_capabilities(uint64_t permitted, uint64_t inheritable);

/* What an agent compares: the writable half of an overlay and what it lies
 * on. */
struct overlay {
  int upper;
  int lower;
  int merged; /* both; only where marks are not for the jail to read */
};

/* The writable layer of a jail whose files may be asked for later. */
struct layer {
  int fd;   /* -1: there is none */
  int give; /* what the host gets of it: without the ids of this jail */
  size_t count;
  struct overlay overlays[JB_OVERLAYS_MAX];
};

/* gate.c */
#define GATE_SIZE 65536

/* Wait for the START.  As message_receive(). */
long gate_wait(int gate, char *buffer, size_t size, struct message *message);

/* It will not be: say so to whoever has come through the gate already. */
void gate_refuse(int gate, const struct jb_report *report);

/* supervisor.c: the life of an init, after jail.c made it one */
__attribute__((noreturn)) void init_main(const struct launch *launch,
                                         const struct layer *layer);

/* jail.c: what a fresh child does until it is an init */
void launch_refuse(const struct launch *launch, const struct jb_report *report,
                   const int *fds, size_t count);
__attribute__((noreturn)) void jail_main(const struct launch *launch);

/* visitors.c: a jail that outlives its host, and who asks for it */
#define VISITORS_MAX 32
#define VISITORS_POLLS (VISITORS_MAX + 2)

struct visitors {
  int listener; /* -1: the host itself is at the other end */
  int hold;     /* the host's end of the jail's channel */
  int home;
  int lease; /* only held */
  int clients[VISITORS_MAX];
  /* What init said, to be told to whoever comes later; length 0: nothing. */
  size_t lengths[5];
  char said[5][2048];
};

void visitors_none(struct visitors *visitors);
void visitors_open(struct visitors *visitors, const struct jb_start *start,
                   const int *fds, size_t count);
size_t visitors_watch(const struct visitors *visitors, struct jb_pollfd *fds);
/* Returns true when a visitor wants the jail to be killed. */
bool visitors_serve(struct visitors *visitors, const struct jb_pollfd *fds,
                    size_t count, char *buffer, size_t size);
bool visitors_expected(const struct visitors *visitors);

/* keeper.c */
__attribute__((noreturn)) void keeper_main(void);

/* life.c: both take the keeper's pidfd.  Tie: die with it, now if it is dead
 * already.  Wait: until it kills us, or is dead. */
long life_tie(int keeper);
__attribute__((noreturn)) void life_wait(int keeper);

/* fds.c: close every descriptor but the *count* in *keep* (sorted in place). */
void close_others(int *keep, size_t count);

#endif
