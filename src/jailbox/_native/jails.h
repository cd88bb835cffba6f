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
  int pid; /* or one of the states below */
  int pidfd;
  int channel;
  bool released; /* nobody will start it again */
  uint64_t linger;
  struct userns userns;
  struct jb_gone gone;
  struct record record;
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
};

/* Start the jail that a START asks for.  What comes of it is told on its
 * channel. */
void jail_start(struct keeper *keeper, const struct record *record, int *fds,
                size_t count);

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

#endif
