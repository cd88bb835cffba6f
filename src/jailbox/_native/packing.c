/* packing.c - packing as a kind of work: the tree of a worker becomes an
 * archive in its stream. */
#include "worker.h"

#include "pack.h"

#define NOTES_SIZE ((size_t)1 << 20)

/* What the walk refused, in the words of the frame. */
static int refusal_of(struct work *work, const struct jb_tree_report *report)
{
  enum jb_work_reason reason = JB_WORK_SYSTEM;
  switch (report->op) {
  case JB_TREE_OP_WRITE:
    reason = JB_WORK_STREAM;
    break;
  case JB_TREE_OP_CHANGED:
    reason = JB_WORK_CHANGED;
    break;
  case JB_TREE_OP_MARK:
    reason = JB_WORK_MARK;
    break;
  case JB_TREE_OP_BOUND:
    if (report->bound == JB_TREE_BOUND_BYTES)
      reason = JB_WORK_MAX_BYTES;
    else if (report->bound == JB_TREE_BOUND_ENTRIES)
      reason = JB_WORK_MAX_ENTRIES;
    else if (report->bound == JB_TREE_BOUND_DEPTH)
      reason = JB_WORK_MAX_DEPTH;
    break;
  default:
    break;
  }
  work->worked.entry = report->entry;
  return work_fail(work, reason, report->error, report->detail,
                   report->detail_size);
}

/* Say what was left out; a path that found no room is only counted. */
static int write_notes(struct work *work, const struct jb_pack_notes *notes)
{
  for (size_t at = 0; at < notes->size;) {
    const char *path = notes->text + at;
    size_t size = text_length(path);
    struct jb_note note = {.kind = JB_NOTE_IGNORED,
                           .path_size = (uint32_t)size};
    if (work_note(work, &note, path, "") < 0)
      return -1;
    at += size + 1;
  }
  return 0;
}

int work_pack(struct work *work)
{
  const struct jb_work *order = work->order;
  size_t whole;
  const struct jb_pack_options *options =
    record_array(&work->record, order->options, sizeof(*options), &whole);
  if (whole == 0)
    return work_refused(work, JB_EINVAL, "options");
  struct jb_pack_notes notes = {.room = NOTES_SIZE};
  notes.text = work_memory(work, NOTES_SIZE);
  if (notes.text == NULL)
    return -1;
  struct jb_pack job = {
    .tree = work->root,
    .lower = work->lower,
    .out = work->stream,
    .flags = options->flags,
    .tree_base = options->tree_base,
    .lower_base = options->lower_base,
    .epoch = options->epoch,
    .owners = (const uint8_t *)(options + 1),
    .owners_size = order->options.length - sizeof(*options),
    .limits = {.entries = order->max_entries, .bytes = order->max_bytes},
  };
  struct jb_tree_report report;
  int failed = jb_pack(&job, &report, &notes);
  work->worked.entries = report.entries;
  work->worked.bytes = report.bytes;
  work->worked.numbers[0] = report.skipped;
  if (failed < 0)
    return refusal_of(work, &report);
  return write_notes(work, &notes);
}
