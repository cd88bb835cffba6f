/* tree.c - the agent: requests about the files of a jail.
 *
 * PROBLEM  Paths of a jail mean something only inside it: its links, its
 *          mounts, its "..".
 * CHOICE   Each path is resolved by the kernel, with openat2 under
 *          RESOLVE_IN_ROOT, to a descriptor of the directory that holds the
 *          last component; the last component is then used without following
 *          it.  A link there is followed by reading it and starting anew, so
 *          that what is created or replaced has a directory and a name.
 * RULES    The agent serves one request at a time, in order, waiting wherever
 *          the socket makes it wait.  What the host says is checked as well:
 *          the agent may run in an address space that is not its own. */
#include "tree_internal.h"

#define IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
#define LINKS_MAX 40

struct agent {
  struct tree_space *space;
  const struct jb_tree_roots *roots;
  struct jb_tree_limits limits;
  struct jb_tree_request request;
  struct jb_tree_report *report;
};

static bool wants(const struct agent *agent, uint32_t flag)
{
  return (agent->request.flags & flag) != 0;
}

static int fail(struct agent *agent, int op, long error)
{
  return tree_fail(agent->report, op, error, "", 0);
}

/* ---- paths ---- */

static long open_in_root(const struct agent *agent, const char *path,
                         uint64_t flags)
{
  struct tree_place place = {
    .dir = agent->roots->root, .path = path, .resolve = IN_ROOT};
  return tree_open(&place, flags);
}

/* A path, cut in two: the directory, and the last component.  The component
 * is empty for what has none ("/", "a/.."): that is a directory. */
struct cut {
  size_t dir_size;  /* 0: the root itself */
  const char *name; /* NUL-terminated unless *slash* */
  size_t name_size;
  bool slash; /* something/ can only be a directory */
};

static struct cut cut_path(const char *path)
{
  size_t end = tree_length(path);
  struct cut cut = {.slash = end > 0 && path[end - 1] == '/'};
  while (end > 0 && path[end - 1] == '/')
    end--;
  size_t start = end;
  while (start > 0 && path[start - 1] != '/')
    start--;
  cut.name = path + start;
  cut.name_size = end - start;
  cut.dir_size = start;
  if ((cut.name_size == 1 && cut.name[0] == '.') ||
      (cut.name_size == 2 && cut.name[0] == '.' && cut.name[1] == '.')) {
    cut.name_size = 0;
    cut.dir_size = end;
  }
  return cut;
}

/* Where something is, or would be: a directory, and a name in it. */
struct spot {
  int dir;    /* owned */
  char *name; /* "" when the directory itself is meant */
  bool slash;
};

static long open_dir_of(const struct agent *agent, char *path, size_t size)
{
  char kept = path[size];
  path[size] = '\0';
  long fd = open_in_root(agent, size == 0 ? "/" : path, O_PATH | O_DIRECTORY);
  path[size] = kept;
  return fd;
}

/* Find the spot of *path*, which is changed.  The name goes to *name*, of
 * JB_TREE_NAME_MAX + 1 bytes.  -errno, and *spot without a descriptor. */
static long find_spot(struct agent *agent, char *path, char *name, bool follow,
                      struct spot *spot)
{
  char *work = agent->space->work;
  *spot = (struct spot){.dir = -1, .name = name};
  for (int i = 0; i < LINKS_MAX; i++) {
    struct cut cut = cut_path(path);
    if (cut.name_size > JB_TREE_NAME_MAX)
      return -JB_ENAMETOOLONG;
    spot->slash |= cut.slash;
    spot->dir = (int)open_dir_of(agent, path, cut.dir_size);
    if (spot->dir < 0)
      return spot->dir;
    memcpy(name, cut.name, cut.name_size);
    name[cut.name_size] = '\0';
    if (cut.name_size == 0 || !follow)
      return 0;
    long size = sys_readlinkat(spot->dir, name, work, JB_TREE_PATH_MAX);
    if (size < 0)
      return 0; /* no link: this is the spot */
    tree_shut(&spot->dir);
    /* A link is relative to the directory it stands in. */
    size_t keep = work[0] == '/' ? 0 : cut.dir_size;
    if (keep + (size_t)size > JB_TREE_PATH_MAX)
      return -JB_ENAMETOOLONG;
    memcpy(path + keep, work, (size_t)size);
    path[keep + (size_t)size] = '\0';
  }
  return -JB_ELOOP;
}

/* ---- answering ---- */

static long answer(struct agent *agent)
{
  const struct jb_tree_report *report = agent->report;
  struct tree_wire *wire = &agent->space->wire;
  struct jb_tree_answer fixed = {.op = report->op,
                                 .error = report->error,
                                 .bound = report->bound,
                                 .detail_size = report->detail_size,
                                 .entry = report->entry,
                                 .entries = report->entries,
                                 .bytes = report->bytes};
  if (tree_wire_full(wire)) {
    long error = tree_wire_flush(wire);
    if (error < 0)
      return error;
  }
  uint8_t *payload = tree_wire_begin(wire);
  memcpy(payload, &fixed, sizeof(fixed));
  memcpy(payload + sizeof(fixed), report->detail, report->detail_size);
  tree_wire_end(wire, JB_TREE_ANSWER, sizeof(fixed) + report->detail_size);
  return tree_wire_flush(wire);
}

/* ---- GET ---- */

static long get(struct agent *agent)
{
  struct tree_space *space = agent->space;
  struct tree_source *source = &space->source;
  uint32_t where = agent->request.where;
  int roots[] = {agent->roots->root, agent->roots->upper, agent->roots->lower};
  if (where > JB_TREE_LOWER || roots[where] < 0) {
    (void)fail(agent, JB_TREE_OP_RESOLVE, JB_EBADF);
    return answer(agent);
  }
  struct cut cut = cut_path(space->first);
  tree_space_source(space);
  source->flags = agent->request.flags;
  source->limits = agent->limits;
  source->wanted_depth = agent->request.depth;
  if (agent->request.max_bytes != 0 &&
      agent->request.max_bytes < source->limits.bytes)
    source->limits.bytes = agent->request.max_bytes;
  /* The root has no name: any will do, the receiver calls it as it likes. */
  bool named = tree_name_ok(cut.name, cut.name_size);
  struct tree_place place = {
    .dir = roots[where], .path = space->first, .resolve = IN_ROOT};
  int more = tree_source_begin(source, &place, named ? cut.name : "root",
                               named ? cut.name_size : 4) < 0
               ? -1
               : 1;
  long error = 0;
  while (more > 0 && error >= 0) {
    if (tree_wire_full(&space->wire))
      error = tree_wire_flush(&space->wire);
    if (error >= 0)
      more = tree_source_step(source);
  }
  tree_source_close(source);
  return error < 0 ? error : answer(agent);
}

/* ---- MKDIR, also for PUT ---- */

static int set_owner(struct agent *agent, int dir, const char *name)
{
  long error = sys_fchownat(dir, name, agent->request.uid, agent->request.gid,
                            AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
  return error < 0 ? fail(agent, JB_TREE_OP_OWNER, error) : 0;
}

/* Make one directory: 1, 0 when something is there already, or -1. */
static int make_one(struct agent *agent, char *path, uint32_t mode)
{
  struct spot spot;
  long error = find_spot(agent, path, agent->space->name, false, &spot);
  if (error < 0)
    return fail(agent, JB_TREE_OP_RESOLVE, error);
  int made = 0;
  if (spot.name[0] != '\0') {
    error = sys_mkdirat(spot.dir, spot.name, mode & 07777);
    made = error < 0 ? -1 : 1;
    if (error == -JB_EEXIST)
      made = 0;
    else if (error < 0)
      (void)fail(agent, JB_TREE_OP_CREATE, error);
  }
  if (made > 0) {
    int fd = (int)sys_openat(
      spot.dir, spot.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
      made = fail(agent, JB_TREE_OP_OPEN, fd);
    /* What mkdir did not do: an owner, set-id bits, a umask not ours. */
    else if (wants(agent, JB_TREE_OWNER) && set_owner(agent, fd, "") < 0)
      made = -1;
    else if (((agent->roots->flags & JB_TREE_OWN_PROCESS) == 0 ||
              (mode & 06000) != 0) &&
             (error = sys_fchmod(fd, mode & 07777)) < 0)
      made = fail(agent, JB_TREE_OP_MODE, error);
    tree_shut(&fd);
  }
  tree_shut(&spot.dir);
  return made;
}

/* Make what is missing of the directories that lead to *path*. */
static int make_parents(struct agent *agent, const char *path, size_t size)
{
  char *work = agent->space->path; /* of no walk yet */
  for (size_t end = 1; end <= size; end++) {
    if (path[end - 1] == '/' || (end < size && path[end] != '/'))
      continue;
    memcpy(work, path, end);
    work[end] = '\0';
    int fd = (int)open_in_root(agent, work, O_PATH | O_DIRECTORY);
    if (fd == -JB_ENOENT) {
      if (make_one(agent, work, 0755) < 0)
        return -1;
    } else if (fd < 0) {
      return fail(agent, JB_TREE_OP_RESOLVE, fd);
    }
    tree_shut(&fd);
  }
  return 0;
}

static void make_directory(struct agent *agent)
{
  char *path = agent->space->first;
  if (wants(agent, JB_TREE_PARENTS)) {
    struct cut cut = cut_path(path);
    if (make_parents(agent, path, cut.dir_size) < 0)
      return;
  }
  int made = make_one(agent, path, agent->request.mode);
  if (made != 0)
    return;
  int fd = -JB_EEXIST;
  if (wants(agent, JB_TREE_EXIST_OK))
    fd = (int)open_in_root(agent, path, O_PATH | O_DIRECTORY);
  if (fd < 0)
    (void)fail(agent, JB_TREE_OP_CREATE, JB_EEXIST);
  tree_shut(&fd);
}

/* ---- PUT ---- */

/* Decide where the top goes, now that its kind is known.  Owns *spot->dir*
 * afterwards.
 *
 *   path is           the top is a directory     the top is a file or link
 *   a directory       INTO: it goes inside, as second
 *                     else: merged into it       else: refused, EISDIR
 *   a link to one     FOLLOW: as a directory; else as a link
 *   something else    refused, ENOTDIR           replaced, where it is
 *   a link to it      FOLLOW: as that            FOLLOW: replaced there
 *   missing           made                       made
 *   missing/          made                       refused, ENOTDIR */
static int place_top(struct agent *agent, unsigned mode, struct spot *spot)
{
  struct tree_space *space = agent->space;
  char *path = space->first;
  bool directory = (mode & S_IFMT) == S_IFDIR;
  struct cut cut = cut_path(path);
  if (wants(agent, JB_TREE_PARENTS) &&
      make_parents(agent, path, cut.dir_size) < 0)
    return -1;
  *spot = (struct spot){.dir = -1, .name = space->name};
  uint64_t follow = wants(agent, JB_TREE_FOLLOW) || cut.slash ? 0 : O_NOFOLLOW;
  int fd = -JB_ENOENT;
  if (directory || wants(agent, JB_TREE_INTO))
    fd = (int)open_in_root(agent, path, O_PATH | O_DIRECTORY | follow);
  if (fd >= 0) {
    spot->dir = fd;
    space->name[0] = '\0';
    if (wants(agent, JB_TREE_INTO))
      memcpy(space->name, space->second, JB_TREE_NAME_MAX + 1);
    return 0;
  }
  if (fd != -JB_ENOENT && (directory || fd != -JB_ENOTDIR))
    return fail(agent, JB_TREE_OP_RESOLVE, fd);
  long error = find_spot(agent, path, space->name,
                         wants(agent, JB_TREE_FOLLOW) && !directory &&
                           (mode & S_IFMT) != S_IFLNK,
                         spot);
  if (error == 0 && spot->slash && !directory)
    error = -JB_ENOTDIR;
  if (error < 0) {
    tree_shut(&spot->dir);
    return fail(agent, JB_TREE_OP_RESOLVE, error);
  }
  return 0;
}

static int begin_put(struct agent *agent, const uint8_t *payload, size_t size,
                     struct spot *spot)
{
  struct tree_space *space = agent->space;
  struct tree_sink *sink = &space->sink;
  struct tree_entry entry;
  if (!tree_entry_parse(&entry, payload, size))
    return fail(agent, JB_TREE_OP_PROTOCOL, JB_EPROTO);
  if (place_top(agent, entry.fixed.mode, spot) < 0)
    return -1;
  sink->top = spot->dir;
  if (spot->name[0] != '\0')
    sink->top_name = spot->name;
  return 0;
}

static long put(struct agent *agent)
{
  struct tree_space *space = agent->space;
  struct tree_sink *sink = &space->sink;
  struct spot spot = {.dir = -1};
  struct jb_tree_frame frame;
  const uint8_t *payload;
  long got;
  bool failed = false;
  tree_space_sink(space);
  sink->limits = agent->limits;
  sink->flags = agent->request.flags;
  sink->exact = (agent->roots->flags & JB_TREE_OWN_PROCESS) != 0;
  sink->set_owner = wants(agent, JB_TREE_OWNER);
  sink->uid = agent->request.uid;
  sink->gid = agent->request.gid;
  sink->self_uid = (uint32_t)JB_CALL0(__NR_geteuid);
  sink->self_gid = (uint32_t)JB_CALL0(__NR_getegid);
  sink->keep_setid = true;
  sink->replace = true;
  if (wants(agent, JB_TREE_INTO) &&
      !tree_name_ok(space->second, agent->request.second_size))
    failed = fail(agent, JB_TREE_OP_PROTOCOL, JB_EINVAL) < 0;
  if (failed && (got = answer(agent)) < 0)
    return got;
  while ((got = tree_wire_next(&space->wire, &frame, &payload)) > 0) {
    if (frame.type == JB_TREE_FINISH)
      break;
    if (!failed) {
      if (!sink->taken && frame.type == JB_TREE_ENTRY)
        failed = begin_put(agent, payload, frame.size, &spot) < 0;
      failed =
        failed || tree_sink_frame(sink, frame.type, payload, frame.size) < 0;
      if (failed) {
        /* Said at once, so that the host does not send gigabytes more. */
        tree_sink_close(sink);
        if ((got = answer(agent)) < 0)
          break;
      }
    }
    tree_wire_drop(&space->wire, &frame);
  }
  if (got > 0) {
    struct jb_tree_finish finish = {.abort = 1};
    if (frame.size == sizeof(finish))
      memcpy(&finish, payload, sizeof(finish));
    tree_wire_drop(&space->wire, &frame);
    if (!failed) {
      if (finish.abort != 0)
        (void)fail(agent, JB_TREE_OP_NONE, JB_ECANCELED);
      else if (!tree_sink_complete(sink))
        (void)fail(agent, JB_TREE_OP_PROTOCOL, JB_EPROTO);
      tree_sink_close(sink);
      got = answer(agent);
    }
  } else {
    tree_sink_close(sink);
    if (got == 0)
      got = -JB_EPIPE; /* the host died in the middle */
  }
  tree_shut(&spot.dir);
  return got < 0 ? got : 0;
}

/* ---- SET ---- */

static long change_mode(struct agent *agent, int fd, unsigned type,
                        const char *path, uint64_t follow)
{
  uint32_t mode = agent->request.mode & 07777;
  long error = -JB_ENOSYS;
#ifndef JB_TREE_WITHOUT_FCHMODAT2
  error = JB_CALL4(452 /* fchmodat2, 6.6 */, fd, "", mode, AT_EMPTY_PATH);
#endif
  if (error != -JB_ENOSYS)
    return error;
  /* Before that, a mode is changed by a descriptor that can read, and only
   * files and directories are opened without a side effect. */
  if (type != S_IFREG && type != S_IFDIR)
    return -JB_EOPNOTSUPP;
  int again = type == S_IFDIR
                ? (int)sys_openat(fd, ".", O_RDONLY | O_CLOEXEC, 0)
                : (int)open_in_root(agent, path,
                                    O_RDONLY | O_NONBLOCK | O_NOCTTY | follow);
  if (again < 0)
    return again;
  struct statx one, other;
  error = tree_stat(fd, "", &one);
  if (error >= 0)
    error = tree_stat(again, "", &other);
  if (error >= 0 && one.stx_ino != other.stx_ino)
    error = -JB_EAGAIN;
  if (error >= 0)
    error = sys_fchmod(again, mode);
  tree_shut(&again);
  return error;
}

static void set(struct agent *agent)
{
  const struct jb_tree_request *request = &agent->request;
  const char *path = agent->space->first;
  uint64_t follow = wants(agent, JB_TREE_FOLLOW) ? 0 : O_NOFOLLOW;
  struct statx stat;
  int fd = (int)open_in_root(agent, path, O_PATH | follow);
  if (fd < 0) {
    (void)fail(agent, JB_TREE_OP_RESOLVE, fd);
    return;
  }
  int failed = 0;
  long error = tree_stat(fd, "", &stat);
  if (error < 0)
    failed = fail(agent, JB_TREE_OP_STAT, error);
  /* The owner first: a change of it drops set-id bits. */
  if (failed == 0 && wants(agent, JB_TREE_OWNER))
    failed = set_owner(agent, fd, "");
  if (failed == 0 && wants(agent, JB_TREE_MODE) &&
      (error = change_mode(agent, fd, stat.stx_mode & S_IFMT, path, follow)) <
        0)
    failed = fail(agent, JB_TREE_OP_MODE, error);
  if (failed == 0 && wants(agent, JB_TREE_TIME | JB_TREE_NOW)) {
    struct __kernel_timespec times[2] = {
      {.tv_sec = request->time_s, .tv_nsec = request->time_ns},
      {.tv_sec = request->time_s, .tv_nsec = request->time_ns}};
    error = sys_utimensat(fd, "", wants(agent, JB_TREE_NOW) ? NULL : times,
                          AT_EMPTY_PATH);
    if (error < 0)
      (void)fail(agent, JB_TREE_OP_TIME, error);
  }
  tree_shut(&fd);
}

/* ---- REMOVE, RENAME, LINK ---- */

static void remove_path(struct agent *agent)
{
  struct tree_space *space = agent->space;
  bool missing_ok = wants(agent, JB_TREE_MISSING_OK);
  struct spot spot;
  long error = find_spot(agent, space->first, space->name, false, &spot);
  if (error < 0) {
    if (!(missing_ok && error == -JB_ENOENT))
      (void)fail(agent, JB_TREE_OP_RESOLVE, error);
    return;
  }
  if (spot.name[0] == '\0') {
    (void)fail(agent, JB_TREE_OP_REMOVE, JB_EBUSY); /* "/", "a/.." */
  } else if (wants(agent, JB_TREE_RECURSIVE)) {
    (void)tree_remove(space, agent->report, spot.dir, spot.name, false);
  } else {
    bool directory = wants(agent, JB_TREE_DIRECTORY) || spot.slash;
    error = sys_unlinkat(spot.dir, spot.name, directory ? AT_REMOVEDIR : 0);
    if (error < 0)
      (void)fail(agent, JB_TREE_OP_REMOVE, error);
  }
  if (missing_ok && agent->report->error == JB_ENOENT)
    *agent->report = (struct jb_tree_report){.error = 0};
  tree_shut(&spot.dir);
}

static void rename_path(struct agent *agent)
{
  struct tree_space *space = agent->space;
  char name[JB_TREE_NAME_MAX + 1];
  struct spot from, to;
  long error = find_spot(agent, space->first, name, false, &from);
  if (error < 0) {
    (void)fail(agent, JB_TREE_OP_RESOLVE, error);
    return;
  }
  error = find_spot(agent, space->second, space->name, false, &to);
  if (error < 0)
    (void)tree_fail(agent->report, JB_TREE_OP_RESOLVE, error, space->second,
                    tree_length(space->second));
  else if (name[0] == '\0' || to.name[0] == '\0')
    (void)fail(agent, JB_TREE_OP_RENAME, JB_EBUSY);
  else if ((error = sys_renameat2(
              from.dir, name, to.dir, to.name,
              wants(agent, JB_TREE_NEW_ONLY) ? TREE_RENAME_NOREPLACE : 0)) < 0)
    (void)fail(agent, JB_TREE_OP_RENAME, error);
  tree_shut(&from.dir);
  tree_shut(&to.dir);
}

static void make_link(struct agent *agent)
{
  struct tree_space *space = agent->space;
  struct spot spot;
  long error = find_spot(agent, space->first, space->name, false, &spot);
  if (error < 0) {
    (void)fail(agent, JB_TREE_OP_RESOLVE, error);
    return;
  }
  if (spot.name[0] == '\0')
    (void)fail(agent, JB_TREE_OP_CREATE, JB_EEXIST);
  else if ((error = sys_symlinkat(space->second, spot.dir, spot.name)) < 0)
    (void)fail(agent, JB_TREE_OP_CREATE, error);
  else if (wants(agent, JB_TREE_OWNER))
    (void)set_owner(agent, spot.dir, spot.name);
  tree_shut(&spot.dir);
}

/* ---- CHANGES ---- */

static long changes(struct agent *agent)
{
  struct tree_space *space = agent->space;
  struct tree_layer *layer = &space->layer;
  *layer = (struct tree_layer){.wire = &space->wire,
                               .report = &space->report,
                               .dirs = space->layer_dirs,
                               .dents = space->dents,
                               .scratch = space->scratch,
                               .roots = agent->roots,
                               .limits = agent->limits,
                               .path = {.text = space->path}};
  long error = 0;
  if (agent->roots->upper < 0) {
    (void)fail(agent, JB_TREE_OP_RESOLVE, JB_EBADF);
    return answer(agent);
  }
  int more = tree_layer_begin(layer) < 0 ? -1 : 1;
  while (more > 0 && error >= 0) {
    if (tree_wire_full(&space->wire))
      error = tree_wire_flush(&space->wire);
    if (error >= 0)
      more = tree_layer_step(layer);
  }
  tree_layer_close(layer);
  return error < 0 ? error : answer(agent);
}

/* ---- serving ---- */

/* Copy the request and its paths out of the frame. */
static bool take_request(struct agent *agent, const uint8_t *payload,
                         size_t size)
{
  struct jb_tree_request *request = &agent->request;
  struct tree_space *space = agent->space;
  if (size < sizeof(*request))
    return false;
  memcpy(request, payload, sizeof(*request));
  size -= sizeof(*request);
  if (request->path_size > JB_TREE_PATH_MAX ||
      request->second_size > JB_TREE_PATH_MAX ||
      (size_t)request->path_size + request->second_size != size ||
      request->time_ns > 999999999)
    return false;
  const char *text = (const char *)payload + sizeof(*request);
  memcpy(space->first, text, request->path_size);
  space->first[request->path_size] = '\0';
  memcpy(space->second, text + request->path_size, request->second_size);
  space->second[request->second_size] = '\0';
  return tree_length(space->first) == request->path_size &&
         tree_length(space->second) == request->second_size;
}

static long serve_one(struct agent *agent, uint32_t type)
{
  bool about_root = type != JB_TREE_GET && type != JB_TREE_CHANGES;
  *agent->report = (struct jb_tree_report){.error = 0};
  if (about_root && type != JB_TREE_PUT && agent->roots->root < 0)
    (void)fail(agent, JB_TREE_OP_RESOLVE, JB_EBADF);
  else if (agent->request.path_size == 0 && type != JB_TREE_CHANGES &&
           type != JB_TREE_PUT)
    (void)fail(agent, JB_TREE_OP_RESOLVE, JB_ENOENT);
  else
    switch (type) {
    case JB_TREE_GET:
      return get(agent);
    case JB_TREE_PUT:
      return put(agent);
    case JB_TREE_CHANGES:
      return changes(agent);
    case JB_TREE_SET:
      set(agent);
      break;
    case JB_TREE_MKDIR:
      make_directory(agent);
      break;
    case JB_TREE_REMOVE:
      remove_path(agent);
      break;
    case JB_TREE_RENAME:
      rename_path(agent);
      break;
    case JB_TREE_LINK:
      make_link(agent);
      break;
    default:
      return -JB_EPROTO;
    }
  return answer(agent);
}

int jb_tree_serve(int sock, const struct jb_tree_roots *roots,
                  const struct jb_tree_limits *limits)
{
  int error = 0;
  struct tree_space *space = tree_space_make(sizeof(*space), &error);
  if (space == NULL)
    return -error;
  tree_space_wire(space, sock, 0);
  if (roots->flags & JB_TREE_OWN_PROCESS)
    (void)sys_umask(0);
  struct agent agent = {.space = space,
                        .roots = roots,
                        .limits = tree_limits(limits),
                        .report = &space->report};
  struct jb_tree_frame frame;
  const uint8_t *payload;
  long got;
  while ((got = tree_wire_next(&space->wire, &frame, &payload)) > 0) {
    bool good = take_request(&agent, payload, frame.size);
    tree_wire_drop(&space->wire, &frame);
    got = good ? serve_one(&agent, frame.type) : -JB_EPROTO;
    if (got < 0)
      break;
  }
  (void)sys_munmap(space, sizeof(*space));
  return (int)got;
}
