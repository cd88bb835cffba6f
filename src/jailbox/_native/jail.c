/* jail.c - from a fresh child of the keeper to the init of a jail.
 *
 * THE RULES OF THIS FILE
 *
 *   1. It begins with the keeper's rights and ends with the jail's.  What
 *      needs the former stands before enter_identity().
 *   2. Whatever is refused is reported on the jail's channel; then it exits,
 *      and the keeper cleans up.
 *   3. It never returns.
 *
 * THE ORDER is security.md B.3 for a root that is built from descriptors: the
 * file systems that need the host's view first, then our own namespaces, then
 * the rest of the root, then identity.  Rights only ever get fewer. */
#include "keeper.h"

struct stage {
  const struct launch *launch;
  struct jb_report *report;
  struct layer layer;
  int slots[JB_SLOTS_MAX];
};

static int tie_to_keeper(struct stage *stage)
{
  long rc = life_tie(stage->launch->keeper);
  if (rc < 0)
    return refuse(stage->report, JB_STEP_LIFE, rc, -1, "pdeathsig");
  const char *name = stage->launch->gate < 0 ? "jailbox-init" : "jailbox-ahead";
  (void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t)name, 0, 0, 0);
  (void)sys_umask(0);
  return 0;
}

static int make_rooms(struct stage *stage)
{
  bool net = (stage->launch->start->flags & JB_START_NET) != 0;
  return stage->launch->own_rooms ? rooms_enter(net, stage->report) : 0;
}

/* Version 1: writing "0" into `tasks` moves the writer itself and takes no
 * global lock; cgroup.procs would wait for a grace period (6 to 12 ms). */
static int join_groups(struct stage *stage)
{
  for (size_t i = 0; i < stage->launch->task_count; i++) {
    long rc = sys_write(stage->launch->tasks[i], "0", 1);
    if (rc < 0)
      return refuse(stage->report, JB_STEP_CGROUP_JOIN, rc, (int)i, "tasks");
  }
  return 0;
}

/* Inherited by whatever runs in the jail.  Here, because the host's /proc is
 * in sight, and what init's own shows of it belongs to nobody in the jail. */
static int set_oom_score(struct stage *stage)
{
  char number[24];
  int64_t wanted = stage->launch->start->oom_score_adj;
  struct text text = text_into(number, sizeof(number));
  if (wanted == 0)
    return 0;
  text_add(&text, wanted < 0 ? "-" : "");
  text_add_number(&text, (uint64_t)(wanted < 0 ? -wanted : wanted));
  long fd =
    sys_openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
  long rc = fd < 0 ? fd : sys_write((int)fd, number, text_length(number));
  if (fd >= 0)
    (void)sys_close((int)fd);
  return rc < 0
           ? refuse(stage->report, JB_STEP_PRIORITY, rc, -1, "oom_score_adj")
           : 0;
}

static int build_root(struct stage *stage)
{
  return ops_run(stage->launch, stage->slots, stage->report);
}

static int open_directory(int at, const char *path)
{
  return (int)sys_openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

/* A layer whose ids are mapped is a clone of one whose ids are not, for the
 * next jail has ids of its own. */
static int layer_to_give(const struct stage *stage)
{
  size_t count;
  const struct jb_start *start = stage->launch->start;
  const struct jb_op *ops =
    record_array(&stage->launch->record, start->ops, sizeof(*ops), &count);
  if ((start->flags & JB_START_LAYER) == 0 || start->layer_slot < 0 ||
      start->layer_slot >= JB_SLOTS_MAX)
    return -1;
  for (size_t i = 0; i < count; i++)
    if (ops[i].kind == JB_OP_TREE && ops[i].slot == start->layer_slot &&
        (ops[i].flags & JB_OP_FROM_SLOT) != 0 && ops[i].source >= 0 &&
        ops[i].source < JB_SLOTS_MAX)
      return stage->slots[ops[i].source];
  return stage->slots[start->layer_slot];
}

/* The writable layer, and both halves of every overlay on it, outlast the
 * building for those who will ask what was changed. */
static int keep_layer(struct stage *stage)
{
  struct layer *layer = &stage->layer;
  char name[96];
  size_t count;
  const struct jb_start *start = stage->launch->start;
  const struct record *record = &stage->launch->record;
  const struct jb_op *ops =
    record_array(record, start->ops, sizeof(*ops), &count);
  *layer = (struct layer){.fd = -1, .give = layer_to_give(stage)};
  if (start->layer_slot < 0 || start->layer_slot >= JB_SLOTS_MAX)
    return 0;
  layer->fd = stage->slots[start->layer_slot];
  if ((start->flags & JB_START_LAYER) == 0)
    return 0;
  for (size_t i = 0; i < count && layer->count < JB_OVERLAYS_MAX; i++) {
    size_t lowers;
    const uint32_t *lower =
      record_array(record, ops[i].data, sizeof(*lower), &lowers);
    if (ops[i].kind != JB_OP_OVERLAY || ops[i].source != start->layer_slot)
      continue;
    struct text text = text_into(name, sizeof(name));
    text_add(&text, record_text(record, ops[i].path));
    text_add(&text, "-upper");
    /* Several layers are seen as one through an overlay of their own. */
    uint64_t below = ops[i].number;
    if (below == 0 && lowers == 1)
      below = (uint64_t)lower[0] + 1;
    bool seen = below != 0 && below <= JB_SLOTS_MAX;
    bool marked = (ops[i].flags & JB_OP_USERXATTR) != 0;
    layer->overlays[layer->count++] = (struct overlay){
      .upper = open_directory(layer->fd, name),
      .lower = seen ? open_directory(stage->slots[below - 1], ".") : -1,
      .merged = marked ? -1 : open_directory(stage->slots[ops[i].slot], "."),
    };
  }
  return 0;
}

static int name_host(struct stage *stage)
{
  const struct launch *launch = stage->launch;
  const char *host = record_text(&launch->record, launch->start->hostname);
  const char *domain = record_text(&launch->record, launch->start->domainname);
  long rc = 0;
  if (host[0] != '\0')
    rc = sys_sethostname(host, text_length(host));
  if (rc == 0 && domain[0] != '\0')
    rc = sys_setdomainname(domain, text_length(domain));
  return rc < 0 ? refuse(stage->report, JB_STEP_HOSTNAME, rc, -1, host) : 0;
}

/* The host's session keyring stays behind. */
static int leave_keyring(struct stage *stage)
{
  if ((stage->launch->start->flags & JB_START_KEYRING) == 0)
    return 0;
  long rc = sys_keyctl_join_session();
  return rc < 0 ? refuse(stage->report, JB_STEP_KEYRING, rc, -1, "keyctl") : 0;
}

static int enter_identity(struct stage *stage)
{
  const struct launch *launch = stage->launch;
  if ((launch->start->flags & JB_START_USERNS) != 0) {
    long rc = sys_setns(launch->userns.fd, CLONE_NEWUSER);
    if (rc == 0)
      rc = sys_setresgid(0);
    if (rc == 0 && launch->id_count > 1)
      rc = sys_setgroups(0, NULL);
    if (rc == 0)
      rc = sys_setresuid(0);
    if (rc < 0)
      return refuse(stage->report, JB_STEP_IDENTITY, rc, -1, "user namespace");
  }
  /* A change of ids clears the death signal, and may make us dumpable. */
  (void)life_tie(launch->keeper);
  (void)sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return 0;
}

/* The order is the design. */
static const struct {
  enum jb_step step;
  int (*run)(struct stage *);
} steps[] = {
  {JB_STEP_LIFE, tie_to_keeper},      /* before anything can be left behind */
  {JB_STEP_NONE, make_rooms},         /* not on the account of its groups */
  {JB_STEP_CGROUP_JOIN, join_groups}, /* bounded from the first mount on, and
                                          before the cgroup namespace is made */
  {JB_STEP_PRIORITY, set_oom_score},  /* while we see the host's /proc */
  {JB_STEP_NONE, build_root},         /* needs the keeper's rights; names its
                                          own steps */
  {JB_STEP_NONE, keep_layer},         /* root of the jail may not open it */
  {JB_STEP_HOSTNAME, name_host},      /* the uts namespace is ours by now */
  {JB_STEP_KEYRING, leave_keyring},   /* as the ids that own the keyring */
  {JB_STEP_IDENTITY, enter_identity}, /* last: no right is left after it */
};

/* A layer from before is given back: some kernels mount it only once, so what
 * the host holds is of no use any more. */
static size_t given_back(const struct stage *stage, int *fd)
{
  *fd = layer_to_give(stage);
  return *fd >= 0;
}

void launch_refuse(const struct launch *launch, const struct jb_report *report,
                   const int *fds, size_t count)
{
  if (launch->gate >= 0)
    gate_refuse(launch->gate, report);
  else
    (void)channel_send(launch->fds[launch->start->channel], report,
                       sizeof(*report), fds, count);
}

void jail_main(const struct launch *launch)
{
  struct jb_report report = {.index = -1};
  struct stage stage = {.launch = launch, .report = &report};
  for (size_t i = 0; i < JB_SLOTS_MAX; i++)
    stage.slots[i] = -1;
  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
    int rc = fault(launch, steps[i].step)
               ? refuse(&report, steps[i].step, launch->start->fail_errno, -1,
                        "injected")
               : steps[i].run(&stage);
    if (rc < 0) {
      int layer = -1;
      size_t count = given_back(&stage, &layer);
      launch_refuse(launch, &report, &layer, count);
      sys_exit_group(1);
    }
  }
  init_main(launch, &stage.layer);
}
