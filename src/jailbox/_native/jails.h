/* jails.h - what a keeper knows of its jails and of itself. */
#ifndef JB_JAILS_H
#define JB_JAILS_H

#include "keeper.h"
#include "worker.h"

#define JAIL_ENDED (-1)   /* its groups may linger */
#define JAIL_RESTING (-2) /* it may be started again: its ids are kept */

/* One jail.  It has a mapping of its own, with a copy of its record behind it,
 * so that a thousand jails cost a thousand times two pages and no more. */
struct jail {
  struct jail *next;
  size_t mapped;
  uint64_t id;
  int pid; /* or one of the states above */
  int pidfd;
  int channel;
  int gate;      /* made ahead: where it waits for its START; otherwise -1 */
  int mounts;    /* its mount namespace, held beyond its end; or -1 */
  bool released; /* nobody will start it again */
  uint64_t linger;
  struct userns userns;
  struct jb_gone gone;
  struct record record;
};

#define RUSH_NS 3000000u /* how long most short programs take at most */
#define GRAVES_MAX 8
#define KINDS_MAX 8
#define AHEAD_SOURCES 16

/* A file of the host, the mount through which it is seen, and what an overlay
 * copies of it when it is made. */
struct source {
  uint64_t mount;
  uint64_t inode;
  uint32_t major;
  uint32_t minor;
  uint32_t uid;
  uint32_t gid;
  uint32_t mode;
  uint32_t reserved;
};

struct sources {
  size_t first; /* index of the first of them beside the record */
  size_t count;
  struct source files[AHEAD_SOURCES];
};

/* What is asked for again and again. */
struct kind {
  uint64_t asked; /* when the last START of this kind came; 0: no kind */
  bool again;     /* it was not the only one */
  struct record record;
  struct sources sources;
  bool wanted; /* one is to be made, of these: */
  int fds[AHEAD_SOURCES];
  struct jail *jail; /* it is made, or being made */
};

struct keeper {
  struct ids ids;
  int self;
  int template;
  int signals;
  bool outlive;
  bool ending; /* the host is gone: kill, clean up, exit */
  bool left;   /* a group could not be removed: our name stays with it */
  struct jail *jails;
  struct userns ready[READY_MAX];
  size_t ready_count;
  struct rooms nets[READY_MAX];
  size_t nets_count;
  struct record config;
  struct visitors visitors;
  struct workers workers;
  int prepared[JB_PREPARED_MAX];
  int mounts; /* says when the mounts of the host change */
  struct kind kinds[KINDS_MAX];
  uint64_t ahead_made;
  int graves[GRAVES_MAX]; /* mount namespaces that nobody is in */
  size_t grave_count;
  uint64_t rush; /* until then somebody waits for a jail that was started just
                    now: nothing is made ahead; 0: nobody does */
};

/* Start the jail that a START asks for.  What comes of it is told on its
 * channel. */
void jail_start(struct keeper *keeper, const struct record *record, int *fds,
                size_t count);

/* Make a jail, without any word to its channel.  With a *gate* it waits there
 * for a START when it is complete.  NULL, with *report*, if the part that the
 * keeper does is refused. */
struct jail *jail_make(struct keeper *keeper, const struct record *record,
                       const int *fds, size_t count, int gate,
                       struct jb_report *report);

/* Carry out a KILL. */
void jail_kill(struct keeper *keeper, const struct record *record);

void jails_kill_all(const struct keeper *keeper);

/* Take note of inits that have ended. */
void jails_reap(struct keeper *keeper);

/* Take away what has ended, and tell.  Returns whether some jail still waits
 * for its groups to become empty. */
bool jails_dispose(struct keeper *keeper);

/* Whether no jail runs; one that rests may be started again. */
bool jails_none_run(const struct keeper *keeper);

/* Take the mounts of one jail down that has ended.  False if there is none. */
bool jails_bury(struct keeper *keeper);

/* ---- ahead.c: jails that are made before they are asked for -------------- */

/* The jail that was made for a START like this, which it has been given; NULL
 * if there is none.  Takes note that such a START came. */
struct jail *ahead_take(struct keeper *keeper, const struct record *record,
                        const int *fds, size_t count);

/* Make one, if one is wanted. */
bool ahead_make(struct keeper *keeper);

/* Whether any waits. */
bool ahead_waits(const struct keeper *keeper);

/* Forget what nobody asked for lately; nanoseconds until there is more to
 * forget, 0 for never. */
uint64_t ahead_expire(struct keeper *keeper);

/* Throw away everything that was made ahead. */
void ahead_forget(struct keeper *keeper);

/* An init ended that nobody has asked for. */
void ahead_ended(struct keeper *keeper, struct jail *jail);

#endif
