/* tree_wire.c - frames in and out of a socket, and what all sides share.
 *
 * Frames are gathered in one buffer and sent together: ten thousand small
 * files are a few hundred system calls here.  What comes in is handed out in
 * place, a frame at a time, and only when it is whole. */
#include "tree_internal.h"

/* ---- failing ---- */

int tree_fail(struct jb_tree_report *report, int op, long error,
              const char *detail, size_t size)
{
  if (report->error != 0)
    return -1;
  report->op = op;
  report->error = (int32_t)(error < 0 ? -error : error);
  report->entry = report->entries;
  if (size > JB_TREE_DETAIL_SIZE)
    size = JB_TREE_DETAIL_SIZE;
  memcpy(report->detail, detail, size);
  report->detail_size = (uint32_t)size;
  return -1;
}

int tree_fail_bound(struct jb_tree_report *report, int bound,
                    const struct tree_path *path)
{
  if (report->error == 0)
    report->bound = bound;
  return tree_fail(report, JB_TREE_OP_BOUND, JB_EOVERFLOW, path->text,
                   path->size);
}

size_t tree_path_add(struct tree_path *path, const char *name, size_t size)
{
  size_t before = path->size;
  if (before + size + 1 > TREE_PATH)
    return before; /* cannot be: depth and names are bounded */
  if (before != 0)
    path->text[path->size++] = '/';
  memcpy(path->text + path->size, name, size);
  path->size += size;
  return before;
}

/* ---- memory ---- */

struct tree_space *tree_space_make(size_t size, int *error)
{
  long at = sys_mmap(NULL, size, JB_PROT_RW, JB_MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) {
    *error = (int)-at;
    return NULL;
  }
  return (struct tree_space *)at;
}

void tree_space_wire(struct tree_space *space, int sock, int flags)
{
  space->wire = (struct tree_wire){
    .sock = sock, .flags = flags, .in = space->in, .out = space->out};
}

void tree_space_source(struct tree_space *space)
{
  space->source = (struct tree_source){.wire = &space->wire,
                                       .report = &space->report,
                                       .dirs = space->source_dirs,
                                       .dents = space->dents,
                                       .scratch = space->scratch,
                                       .path = {.text = space->path},
                                       .file = -1};
}

void tree_space_sink(struct tree_space *space)
{
  space->sink = (struct tree_sink){.report = &space->report,
                                   .dirs = space->sink_dirs,
                                   .space = space,
                                   .path = {.text = space->path},
                                   .top = -1,
                                   .file = -1};
}

struct jb_tree_limits tree_limits(const struct jb_tree_limits *wished)
{
  struct jb_tree_limits limits = {
    .entries = UINT64_MAX, .bytes = INT64_MAX, .depth = JB_TREE_DEPTH_MAX};
  if (wished != NULL) {
    if (wished->entries != 0)
      limits.entries = wished->entries;
    if (wished->bytes != 0 && wished->bytes < limits.bytes)
      limits.bytes = wished->bytes;
    if (wished->depth != 0 && wished->depth < limits.depth)
      limits.depth = wished->depth;
  }
  return limits;
}

/* ---- sending ---- */

long tree_wire_send(struct tree_wire *wire)
{
  while (wire->out_at < wire->out_end) {
    struct jb_iovec part = {.base = wire->out + wire->out_at,
                            .length = wire->out_end - wire->out_at};
    struct jb_msghdr message = {.iov = &part, .iov_count = 1};
    /* A peer that is gone is an error code here, never a signal. */
    long sent =
      sys_sendmsg(wire->sock, &message, JB_MSG_NOSIGNAL | wire->flags);
    if (sent == -JB_EINTR)
      continue;
    if (sent < 0)
      return sent;
    wire->out_at += (size_t)sent;
  }
  wire->out_at = wire->out_end = 0;
  return 0;
}

static long wait_for(const struct tree_wire *wire, short events)
{
  struct jb_pollfd poll = {.fd = wire->sock, .events = events};
  long ready = sys_ppoll(&poll, 1, NULL);
  return ready < 0 && ready != -JB_EINTR ? ready : 0;
}

long tree_wire_flush(struct tree_wire *wire)
{
  long error;
  while ((error = tree_wire_send(wire)) == -JB_EAGAIN)
    if ((error = wait_for(wire, JB_POLLOUT)) < 0)
      break;
  return error;
}

void tree_wire_end(struct tree_wire *wire, uint32_t type, size_t size)
{
  struct jb_tree_frame frame = {.type = type, .size = (uint32_t)size};
  memcpy(wire->out + wire->out_end, &frame, sizeof(frame));
  wire->out_end += sizeof(frame) + size;
}

/* ---- receiving ---- */

long tree_wire_receive(struct tree_wire *wire)
{
  if (wire->in_at == wire->in_end) {
    wire->in_at = wire->in_end = 0;
  } else if (wire->in_at > 0 && wire->in_end > TREE_BUFFER_FULL) {
    /* Only the beginning of one frame is ever moved, and rarely. */
    memmove(wire->in, wire->in + wire->in_at, wire->in_end - wire->in_at);
    wire->in_end -= wire->in_at;
    wire->in_at = 0;
  }
  if (wire->in_end == TREE_BUFFER)
    return -JB_EPROTO;
  struct jb_iovec part = {.base = wire->in + wire->in_end,
                          .length = TREE_BUFFER - wire->in_end};
  for (;;) {
    struct jb_msghdr message = {.iov = &part, .iov_count = 1};
    long got =
      sys_recvmsg(wire->sock, &message, JB_MSG_CMSG_CLOEXEC | wire->flags);
    if (got == -JB_EINTR)
      continue;
    if (got <= 0)
      return got;
    wire->in_end += (size_t)got;
    return 1;
  }
}

int tree_wire_peek(const struct tree_wire *wire, struct jb_tree_frame *frame,
                   const uint8_t **payload)
{
  size_t have = wire->in_end - wire->in_at;
  if (have < sizeof(*frame))
    return 0;
  memcpy(frame, wire->in + wire->in_at, sizeof(*frame));
  if (frame->size > TREE_BUFFER - sizeof(*frame))
    return -JB_EPROTO;
  if (have - sizeof(*frame) < frame->size)
    return 0;
  *payload = wire->in + wire->in_at + sizeof(*frame);
  return 1;
}

void tree_wire_drop(struct tree_wire *wire, const struct jb_tree_frame *frame)
{
  wire->in_at += sizeof(*frame) + frame->size;
}

long tree_wire_next(struct tree_wire *wire, struct jb_tree_frame *frame,
                    const uint8_t **payload)
{
  for (;;) {
    int whole = tree_wire_peek(wire, frame, payload);
    if (whole != 0)
      return whole;
    long got = tree_wire_receive(wire);
    if (got == 0)
      /* Ending between two frames is how one hangs up. */
      return wire->in_at == wire->in_end ? 0 : -JB_EPIPE;
    if (got == -JB_EAGAIN)
      got = wait_for(wire, JB_POLLIN);
    if (got < 0)
      return got;
  }
}

/* ---- entries ---- */

bool tree_name_ok(const char *name, size_t size)
{
  if (size == 0 || size > JB_TREE_NAME_MAX)
    return false;
  if (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')))
    return false;
  for (size_t i = 0; i < size; i++)
    if (name[i] == '/' || name[i] == '\0')
      return false;
  return true;
}

static bool link_ok(const char *link, size_t size)
{
  if (size == 0 || size > JB_TREE_LINK_MAX)
    return false;
  for (size_t i = 0; i < size; i++)
    if (link[i] == '\0')
      return false;
  return true;
}

bool tree_mode_ok(uint32_t mode)
{
  switch (mode & ~(uint32_t)07777) {
  case S_IFREG:
  case S_IFDIR:
  case S_IFLNK:
  case S_IFIFO:
  case S_IFSOCK:
  case S_IFCHR:
  case S_IFBLK:
    return true;
  default:
    return false;
  }
}

bool tree_entry_parse(struct tree_entry *entry, const uint8_t *payload,
                      size_t size)
{
  struct jb_tree_entry *fixed = &entry->fixed;
  if (size < sizeof(*fixed))
    return false;
  memcpy(fixed, payload, sizeof(*fixed));
  size -= sizeof(*fixed);
  /* Each is bounded by what came, so the sum cannot wrap around. */
  if (fixed->name_size > size || fixed->link_size > size ||
      fixed->xattrs_size > size ||
      (size_t)fixed->name_size + fixed->link_size + fixed->xattrs_size != size)
    return false;
  if (fixed->xattrs_size > JB_TREE_XATTRS_MAX || fixed->time_ns > 999999999)
    return false;
  entry->name = (const char *)payload + sizeof(*fixed);
  entry->link = entry->name + fixed->name_size;
  entry->xattrs =
    payload + sizeof(*fixed) + fixed->name_size + fixed->link_size;
  if (!tree_name_ok(entry->name, fixed->name_size))
    return false;
  unsigned type = fixed->mode & S_IFMT;
  if (!tree_mode_ok(fixed->mode))
    return false;
  if (type == S_IFLNK)
    return link_ok(entry->link, fixed->link_size) &&
           (fixed->flags & JB_TREE_OPEN) == 0;
  if (fixed->link_size != 0)
    return false;
  return (fixed->flags & JB_TREE_OPEN) == 0 || type == S_IFREG ||
         type == S_IFDIR;
}

/* ---- directories ---- */

/* struct linux_dirent64: ino, off, reclen, type, name. */
#define DIRENT_RECLEN 16
#define DIRENT_TYPE 18
#define DIRENT_NAME 19

long tree_list_next(struct tree_list *list, struct tree_dirent *entry)
{
  for (;;) {
    if (list->at >= list->end) {
      long got = sys_getdents64(list->fd, list->dents, TREE_DENTS);
      if (got == -JB_ENOENT)
        got = 0; /* the directory was removed meanwhile */
      if (got <= 0)
        return got;
      list->at = 0;
      list->end = (uint32_t)got;
    }
    const char *at = list->dents + list->at;
    uint16_t length;
    memcpy(&length, at + DIRENT_RECLEN, sizeof(length));
    list->at += length;
    entry->name = at + DIRENT_NAME;
    entry->size = tree_length(entry->name);
    entry->type = (unsigned char)at[DIRENT_TYPE];
    /* A file system may be made to say anything (FUSE): such a name could
     * not be used safely by anyone. */
    if (tree_name_ok(entry->name, entry->size))
      return 1;
  }
}
