/* tree_job.c - the host side: one operation as a machine that never waits.
 *
 * PROBLEM  The host process has deadlines, signals, threads and event loops,
 *          and none of them can be served from inside a C function.
 * CHOICE   A job does what can be done without waiting for the socket and then
 *          says what it waits for.  Who waits, and for how long, is decided in
 *          Python; giving up is to free the job and to close the socket.
 * RULES    What comes from the agent is hostile.  It is parsed by the bounds
 *          of what came, written below the directory that the caller opened,
 *          and nowhere else.  The agent's word about its own failure is only
 *          ever shown. */
#include "tree_internal.h"

#define QUANTUM_NS 10000000

enum job_kind { JOB_ASK, JOB_SEND, JOB_ITEMS, JOB_RECEIVE };

struct jb_tree_job {
  struct tree_space space; /* must stay first: it is what is mapped */
  enum job_kind kind;
  bool sending;  /* the stream is not over */
  bool finished; /* FINISH is in the buffer */
  bool answered;
  bool done;
  bool undo; /* tell the agent to forget it */
  size_t frames_at;
  size_t frames_end;
  const struct jb_tree_item *items;
  size_t item;
  size_t items_count;
  uint64_t item_offset;
  uint32_t item_depth;
  int dir;
  const char *name;
  struct tree_notes notes;
};

static int64_t now_ns(void)
{
  struct __kernel_timespec now = {.tv_sec = 0};
  (void)sys_clock_gettime(1 /* CLOCK_MONOTONIC */, &now);
  return now.tv_sec * 1000000000 + now.tv_nsec;
}

static int protocol_error(struct jb_tree_job *job)
{
  return tree_fail(&job->space.report, JB_TREE_OP_PROTOCOL, JB_EPROTO, "", 0);
}

static int socket_error(struct jb_tree_job *job, long error)
{
  return tree_fail(&job->space.report, JB_TREE_OP_SOCKET, error, "", 0);
}

/* ---- making ---- */

static struct jb_tree_job *make(enum job_kind kind, int sock,
                                const void *request, size_t size, int *error)
{
  struct jb_tree_job *job;
  *error = 0;
  if (size > TREE_BUFFER_FULL) {
    *error = JB_E2BIG;
    return NULL;
  }
  job = (struct jb_tree_job *)tree_space_make(sizeof(*job), error);
  if (job == NULL)
    return NULL;
  struct tree_space *space = &job->space;
  job->kind = kind;
  tree_space_wire(space, sock, JB_MSG_DONTWAIT);
  tree_space_source(space);
  tree_space_sink(space);
  job->notes =
    (struct tree_notes){.text = space->notes, .room = sizeof(space->notes)};
  memcpy(space->out, request, size);
  space->wire.out_end = size;
  return job;
}

struct jb_tree_job *jb_tree_ask(int sock, const void *request, size_t size,
                                const struct jb_tree_limits *limits, int *error)
{
  struct jb_tree_job *job = make(JOB_ASK, sock, request, size, error);
  if (job != NULL)
    job->space.sink.limits = tree_limits(limits);
  return job;
}

struct jb_tree_job *
jb_tree_send(int sock, const void *request, size_t size, int dir,
             const char *name, const char *excludes, size_t excludes_size,
             uint32_t flags, const struct jb_tree_limits *limits, int *error)
{
  struct jb_tree_job *job = make(JOB_SEND, sock, request, size, error);
  if (job == NULL)
    return NULL;
  struct tree_source *source = &job->space.source;
  job->sending = true;
  job->dir = dir;
  job->name = name;
  source->notes = &job->notes;
  source->limits = tree_limits(limits);
  source->excludes = excludes;
  source->excludes_size = excludes_size;
  source->wanted_depth = JB_TREE_ALL;
  source->flags = JB_TREE_DATA_TOO;
  if (flags & JB_TREE_WITH_XATTRS)
    source->flags |= JB_TREE_XATTRS;
  return job;
}

struct jb_tree_job *jb_tree_send_items(int sock, const void *request,
                                       size_t size,
                                       const struct jb_tree_item *items,
                                       size_t count, int *error)
{
  struct jb_tree_job *job = make(JOB_ITEMS, sock, request, size, error);
  if (job == NULL)
    return NULL;
  job->sending = true;
  job->items = items;
  job->items_count = count;
  return job;
}

struct jb_tree_job *jb_tree_receive(int sock, const void *request, size_t size,
                                    int dir, const char *name, uint32_t flags,
                                    const struct jb_tree_limits *limits,
                                    int *error)
{
  struct jb_tree_job *job = make(JOB_RECEIVE, sock, request, size, error);
  if (job == NULL)
    return NULL;
  struct tree_sink *sink = &job->space.sink;
  sink->notes = &job->notes;
  sink->limits = tree_limits(limits);
  sink->top = dir;
  sink->top_name = name;
  sink->keep_setid = (flags & JB_TREE_KEEP_SETID) != 0;
  sink->replace = (flags & JB_TREE_REPLACE) != 0;
  sink->force = true;
  return job;
}

void jb_tree_free(struct jb_tree_job *job)
{
  if (job == NULL)
    return;
  tree_source_close(&job->space.source);
  tree_sink_close(&job->space.sink);
  (void)sys_munmap(job, sizeof(*job));
}

const struct jb_tree_report *jb_tree_report(const struct jb_tree_job *job)
{
  return &job->space.report;
}

const char *jb_tree_skipped(const struct jb_tree_job *job, size_t *size)
{
  *size = job->notes.size;
  return job->notes.text;
}

const void *jb_tree_frames(const struct jb_tree_job *job, size_t *size)
{
  *size = job->frames_end - job->frames_at;
  return job->space.in + job->frames_at;
}

/* ---- sending what is in memory ---- */

/* Put a little more into the buffer: 1, 0 when all is there, -1. */
static int step_items(struct jb_tree_job *job)
{
  struct tree_wire *wire = &job->space.wire;
  struct jb_tree_report *report = &job->space.report;
  if (job->item == job->items_count)
    return 0;
  const struct jb_tree_item *item = &job->items[job->item];
  unsigned type = item->mode & S_IFMT;
  uint8_t *payload = tree_wire_begin(wire);
  if (job->item_offset != 0) {
    /* In the middle of a file. */
    uint64_t left = item->data_size - (job->item_offset - 1);
    size_t size = left < JB_TREE_DATA_MAX ? (size_t)left : JB_TREE_DATA_MAX;
    if (size == 0) {
      tree_wire_end(wire, JB_TREE_END, 0);
      job->item_offset = 0;
      job->item++;
      return 1;
    }
    memcpy(payload, item->data + (job->item_offset - 1), size);
    tree_wire_end(wire, JB_TREE_DATA, size);
    job->item_offset += size;
    report->bytes += size;
    return 1;
  }
  if (type == 0) {
    tree_wire_end(wire, JB_TREE_END, 0);
    job->item++;
    return 1;
  }
  struct jb_tree_entry entry = {
    .mode = item->mode,
    .size = type == S_IFREG ? item->data_size : 0,
    .time_s = item->time_s,
    .time_ns = item->time_ns,
    .flags = item->flags & JB_TREE_TIME_NOW,
    .name_size = item->name_size,
    .link_size = type == S_IFLNK ? (uint32_t)item->data_size : 0,
  };
  if (!tree_name_ok(item->name, item->name_size) ||
      (type == S_IFLNK && item->data_size > JB_TREE_LINK_MAX))
    return tree_fail(report, JB_TREE_OP_CREATE, JB_EINVAL, item->name,
                     item->name_size);
  if (type == S_IFREG || type == S_IFDIR)
    entry.flags |= JB_TREE_OPEN;
  memcpy(payload, &entry, sizeof(entry));
  memcpy(payload + sizeof(entry), item->name, item->name_size);
  if (entry.link_size != 0)
    memcpy(payload + sizeof(entry) + item->name_size, item->data,
           entry.link_size);
  tree_wire_end(wire, JB_TREE_ENTRY,
                sizeof(entry) + item->name_size + entry.link_size);
  report->entries++;
  if (type == S_IFREG)
    job->item_offset = 1; /* one more than what was sent of it */
  else
    job->item++;
  return 1;
}

/* ---- receiving ---- */

static bool take_answer(struct jb_tree_job *job, const uint8_t *payload,
                        size_t size)
{
  struct jb_tree_report *report = &job->space.report;
  struct jb_tree_answer answer;
  if (size < sizeof(answer))
    return false;
  memcpy(&answer, payload, sizeof(answer));
  if (answer.detail_size != size - sizeof(answer) ||
      answer.detail_size > JB_TREE_DETAIL_SIZE || answer.error < 0 ||
      answer.error > 4095)
    return false;
  job->answered = true;
  if (answer.error == 0 || report->error != 0)
    return true;
  *report = (struct jb_tree_report){.op = answer.op,
                                    .error = answer.error,
                                    .bound = answer.bound,
                                    .side = JB_TREE_SIDE_AGENT,
                                    .entry = answer.entry,
                                    .entries = report->entries,
                                    .bytes = report->bytes,
                                    .skipped = report->skipped,
                                    .detail_size = answer.detail_size};
  memcpy(report->detail, payload + sizeof(answer), answer.detail_size);
  return true;
}

/* One half of a change: a mode says that it is there. */
static bool half_ok(const struct jb_tree_entry *half, bool there)
{
  if (half->time_ns > 999999999)
    return false;
  return there ? tree_mode_ok(half->mode) : half->mode == 0;
}

/* Is this a frame that may be handed to Python as it is? */
static bool frame_ok(uint32_t type, const uint8_t *payload, size_t size)
{
  struct tree_entry entry;
  struct jb_tree_change change;
  switch (type) {
  case JB_TREE_ENTRY:
    return tree_entry_parse(&entry, payload, size);
  case JB_TREE_DATA:
    return true;
  case JB_TREE_HOLE:
    return size == sizeof(uint64_t);
  case JB_TREE_END:
    return size == 0;
  case JB_TREE_CHANGE:
    if (size < sizeof(change))
      return false;
    memcpy(&change, payload, sizeof(change));
    size -= sizeof(change);
    if (!half_ok(&change.now, change.kind != JB_TREE_REMOVED) ||
        !half_ok(&change.old, change.kind != JB_TREE_ADDED) ||
        change.kind < JB_TREE_ADDED || change.kind > JB_TREE_REMOVED)
      return false;
    return change.path_size <= size && change.now.link_size <= size &&
           change.old.link_size <= size &&
           (size_t)change.path_size + change.now.link_size +
               change.old.link_size ==
             size;
  default:
    return false;
  }
}

/* Count what an asked agent sends against the bounds. */
static int count_frame(struct jb_tree_job *job, uint32_t type,
                       const uint8_t *payload, size_t size)
{
  struct jb_tree_report *report = &job->space.report;
  const struct jb_tree_limits *limits = &job->space.sink.limits;
  const struct tree_path nowhere = {.text = job->space.path};
  if (type == JB_TREE_ENTRY || type == JB_TREE_CHANGE) {
    if (report->entries >= limits->entries)
      return tree_fail_bound(report, JB_TREE_BOUND_ENTRIES, &nowhere);
    report->entries++;
  }
  uint64_t bytes = type == JB_TREE_DATA ? size : 0;
  if (type == JB_TREE_HOLE)
    memcpy(&bytes, payload, sizeof(bytes));
  if (bytes > limits->bytes - report->bytes)
    return tree_fail_bound(report, JB_TREE_BOUND_BYTES, &nowhere);
  report->bytes += bytes;
  return 0;
}

/* Handle one whole frame: 1, 0 when there is none, -1.  Frames for Python stay
 * in the buffer until the next step. */
static int step_frame(struct jb_tree_job *job)
{
  struct tree_wire *wire = &job->space.wire;
  struct jb_tree_frame frame;
  const uint8_t *payload;
  int whole = tree_wire_peek(wire, &frame, &payload);
  if (whole < 0)
    return protocol_error(job);
  if (whole == 0)
    return 0;
  if (frame.type == JB_TREE_ANSWER) {
    if (!take_answer(job, payload, frame.size))
      return protocol_error(job);
    if (job->kind == JOB_RECEIVE && job->space.report.error == 0 &&
        !tree_sink_complete(&job->space.sink))
      return protocol_error(job);
  } else if (job->kind == JOB_RECEIVE) {
    if (tree_sink_frame(&job->space.sink, frame.type, payload, frame.size) < 0)
      return -1;
  } else if (job->kind == JOB_ASK) {
    if (!frame_ok(frame.type, payload, frame.size))
      return protocol_error(job);
    if (count_frame(job, frame.type, payload, frame.size) < 0)
      return -1;
    tree_wire_drop(wire, &frame);
    job->frames_end = wire->in_at;
    return 1;
  } else {
    return protocol_error(job);
  }
  tree_wire_drop(wire, &frame);
  return 1;
}

/* ---- the machine ---- */

static int step_source(struct jb_tree_job *job)
{
  struct tree_source *source = &job->space.source;
  if (source->started)
    return tree_source_step(source);
  struct tree_place place = {.dir = job->dir,
                             .path = job->name,
                             .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                        RESOLVE_NO_MAGICLINKS};
  size_t size = tree_length(job->name);
  bool named = tree_name_ok(job->name, size);
  return tree_source_begin(source, &place, named ? job->name : "root",
                           named ? size : 4) < 0
           ? -1
           : 1;
}

/* Fill the buffer with more of the stream. */
static void fill(struct jb_tree_job *job)
{
  struct tree_wire *wire = &job->space.wire;
  while (job->sending && !tree_wire_full(wire)) {
    int more = job->kind == JOB_SEND ? step_source(job) : step_items(job);
    if (more > 0)
      continue;
    job->sending = false;
    job->undo = more < 0;
  }
  if (!job->sending && !job->finished && !tree_wire_full(wire)) {
    struct jb_tree_finish finish = {.abort = job->undo};
    memcpy(tree_wire_begin(wire), &finish, sizeof(finish));
    tree_wire_end(wire, JB_TREE_FINISH, sizeof(finish));
    job->finished = true;
  }
}

static int end(struct jb_tree_job *job)
{
  struct jb_tree_report *report = &job->space.report;
  job->done = true;
  if (report->error != 0 && report->side == JB_TREE_SIDE_NONE)
    report->side = JB_TREE_SIDE_HOST;
  /* Here, so that nothing is left when the caller hears of it. */
  tree_source_close(&job->space.source);
  tree_sink_close(&job->space.sink);
  return JB_TREE_DONE;
}

enum progress { STOP, WAIT, GO_ON };

/* Look at what has come, and receive more when nothing is left of it. */
static enum progress take(struct jb_tree_job *job)
{
  bool streams = job->kind == JOB_SEND || job->kind == JOB_ITEMS;
  int some = 1;
  while (!job->answered && (some = step_frame(job)) > 0)
    ;
  if (some < 0)
    return STOP;
  if (job->answered) {
    if (streams && !job->finished) {
      if (job->space.report.error == 0) {
        (void)protocol_error(job); /* it cannot have seen all of it */
        return STOP;
      }
      /* Refused in the middle: the agent skips up to FINISH. */
      job->sending = false;
      job->undo = true;
    }
    return GO_ON;
  }
  /* Receiving may move what is in the buffer. */
  if (job->frames_end > job->frames_at)
    return WAIT;
  long got = tree_wire_receive(&job->space.wire);
  if (got == -JB_EAGAIN)
    return WAIT;
  if (got > 0) {
    job->frames_at = job->frames_end = job->space.wire.in_at;
    return GO_ON;
  }
  (void)socket_error(job, got == 0 ? JB_EPIPE : got);
  return STOP;
}

int jb_tree_step(struct jb_tree_job *job)
{
  struct tree_wire *wire = &job->space.wire;
  bool streams = job->kind == JOB_SEND || job->kind == JOB_ITEMS;
  int64_t until = now_ns() + QUANTUM_NS;
  if (job->done)
    return JB_TREE_DONE;
  job->frames_at = job->frames_end = wire->in_at;
  do {
    if (streams)
      fill(job);
    long sent = tree_wire_send(wire);
    if (sent < 0 && sent != -JB_EAGAIN) {
      /* It may have said why before it hung up: read on. */
      wire->out_at = wire->out_end = 0;
      job->sending = false;
      job->finished = true;
    }
    bool blocked = sent == -JB_EAGAIN;
    if (job->answered) {
      if (blocked)
        return JB_TREE_WANTS_WRITE;
      if (!streams || job->finished)
        return end(job);
      continue;
    }
    enum progress progress = take(job);
    if (progress == STOP)
      return end(job);
    if (progress == WAIT) {
      if (job->frames_end > job->frames_at)
        return JB_TREE_WANTS_TIME;
      if (blocked)
        return JB_TREE_WANTS_READ | JB_TREE_WANTS_WRITE;
      if (!job->sending)
        return JB_TREE_WANTS_READ;
    }
  } while (now_ns() < until);
  return JB_TREE_WANTS_TIME;
}
