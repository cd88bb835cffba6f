/* untar.c - a tar archive as a sequence of calls.
 *
 * RULES  1. No system call, no memory of its own, no recursion.
 *        2. Every size is checked before it is added to anything.
 *        3. A loop ends by the bytes it consumes.
 *
 * CONTENTS  bytes . numbers . extended headers . holes . headers . content .
 *           the archive */
#include "untar.h"

#include "text.h"

/* Where the fields of a header stand (POSIX.1-2001, pax; tar.h of GNU). */
#define AT_NAME 0
#define AT_MODE 100
#define AT_UID 108
#define AT_GID 116
#define AT_SIZE 124
#define AT_MTIME 136
#define AT_CHECKSUM 148
#define AT_TYPE 156
#define AT_LINK 157
#define AT_MAGIC 257
#define AT_MAJOR 329
#define AT_MINOR 337
#define AT_PREFIX 345
#define PREFIX_SIZE 155
#define STAR_PREFIX_SIZE 131
#define AT_STAR_MAGIC 508
#define AT_GNU_SPARSE 386
#define GNU_SPARSE_COUNT 4
#define AT_GNU_EXTENDED 482
#define AT_GNU_REAL_SIZE 483
#define GNU_MORE_COUNT 21
#define AT_GNU_MORE_EXTENDED 504

#define SAID_PATH 1u
#define SAID_LINK 2u
#define SAID_SIZE 4u
#define SAID_UID 8u
#define SAID_GID 16u
#define SAID_MTIME 32u

#define SPARSE_REAL_SIZE 1u
#define SPARSE_NAME 2u
#define SPARSE_VERSION 4u
#define SPARSE_OFFSET 8u /* an offset that waits for its size */
#define SPARSE_MAP 16u

#define ID_MAX 0xfffffffeu /* -1 means "nobody asked" to the kernel */
#define SIZE_MAX_SANE ((uint64_t)1 << 62)

static int stop(struct untar *untar, enum jb_work_reason reason)
{
  untar->reason = reason;
  return -1;
}

/* ---- bytes -------------------------------------------------------------- */

static void copy(char *to, const char *from, size_t size)
{
  for (size_t i = 0; i < size; i++)
    to[i] = from[i];
}

/* Read once, behind what is there.  0 at the end of the stream. */
static int fill(struct untar *untar)
{
  if (untar->exhausted)
    return 0;
  if (untar->have == 0)
    untar->at = 0;
  if (untar->at != 0 && untar->at + untar->have == UNTAR_BUFFER) {
    copy(untar->buffer, untar->buffer + untar->at, untar->have);
    untar->at = 0;
  }
  size_t used = untar->at + untar->have;
  long got = untar->calls->read(untar->calls->context, untar->buffer + used,
                                UNTAR_BUFFER - used);
  if (got < 0) {
    untar->error = got;
    return stop(untar, JB_WORK_STREAM);
  }
  if (got == 0) {
    untar->exhausted = true;
    return 0;
  }
  untar->have += (size_t)got;
  untar->read += (uint64_t)got;
  if (untar->max_bytes != 0 && untar->read > untar->max_bytes)
    return stop(untar, JB_WORK_MAX_BYTES);
  return 1;
}

/* See to it that a block is there: 1, 0 at the end, -1. */
static int want_block(struct untar *untar)
{
  while (untar->have < UNTAR_BLOCK) {
    int rc = fill(untar);
    if (rc < 0)
      return rc;
    if (rc == 0)
      return untar->have == 0 ? 0 : stop(untar, JB_WORK_TRUNCATED);
  }
  return 1;
}

static const char *take(struct untar *untar, size_t size)
{
  const char *bytes = untar->buffer + untar->at;
  untar->at += size;
  untar->have -= size;
  return bytes;
}

/* The next piece of at most *left* bytes. */
static const char *piece(struct untar *untar, uint64_t left, size_t *size)
{
  if (untar->have == 0) {
    int rc = fill(untar);
    if (rc == 0)
      rc = stop(untar, JB_WORK_TRUNCATED);
    if (rc < 0)
      return NULL;
  }
  *size = untar->have < left ? untar->have : (size_t)left;
  return take(untar, *size);
}

static int skip(struct untar *untar, uint64_t size)
{
  while (size != 0) {
    size_t got;
    if (piece(untar, size, &got) == NULL)
      return -1;
    size -= got;
  }
  return 0;
}

/* What pads the last file is missing where nobody finished the archive, as the
 * end marks are: no content is cut off by that. */
static int skip_padding(struct untar *untar, uint64_t size)
{
  while (size != 0) {
    size_t got;
    int rc = untar->have != 0 ? 1 : fill(untar);
    if (rc <= 0)
      return rc;
    (void)piece(untar, size, &got);
    size -= got;
  }
  return 0;
}

static uint64_t padding(uint64_t size)
{
  return (UNTAR_BLOCK - size % UNTAR_BLOCK) % UNTAR_BLOCK;
}

/* ---- numbers ------------------------------------------------------------ */

/* Two's complement in as many bytes as the field has, marked by its first bit
 * (GNU and star). */
static bool base_256(const unsigned char *field, size_t size, int64_t *out)
{
  bool negative = (field[0] & 0x40) != 0;
  uint64_t value = negative ? ~(uint64_t)0 : 0;
  for (size_t i = 0; i < size; i++) {
    unsigned byte = field[i];
    if (i == 0) /* the mark stands where the sign would */
      byte = negative ? byte | 0x80u : byte & 0x7fu;
    /* What is shifted out must be nothing but sign. */
    if (value >> 55 != (negative ? 0x1ffu : 0u))
      return false;
    value = value << 8 | byte;
  }
  *out = (int64_t)value;
  return true;
}

/* Octal digits, with spaces before and spaces or NULs behind; nothing is 0. */
static bool octal(const char *field, size_t size, int64_t *out)
{
  size_t i = 0;
  uint64_t value = 0;
  while (i < size && (field[i] == ' ' || field[i] == '\0'))
    i++;
  for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
    if (value >> 60 != 0)
      return false;
    value = value << 3 | (uint64_t)(field[i] - '0');
  }
  /* Behind the first NUL stands what the writer's buffer held. */
  for (; i < size && field[i] != '\0'; i++)
    if (field[i] != ' ')
      return false;
  *out = (int64_t)value;
  return true;
}

static bool field_number(const char *field, size_t size, int64_t *out)
{
  if (((unsigned char)field[0] & 0x80u) != 0)
    return base_256((const unsigned char *)field, size, out);
  return octal(field, size, out);
}

/* All of *size* characters, as decimal digits. */
static bool decimal(const char *text, size_t size, uint64_t *out)
{
  uint64_t value = 0;
  if (size == 0 || size > 19)
    return false;
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9')
      return false;
    value = value * 10 + (uint64_t)(text[i] - '0');
  }
  *out = value;
  return true;
}

/* "-12.345": seconds with a fraction, rounded towards the past. */
static bool time_number(const char *text, size_t size, int64_t *seconds,
                        uint32_t *nanoseconds)
{
  bool negative = size != 0 && text[0] == '-';
  size_t from = negative ? 1 : 0;
  size_t dot = from;
  uint64_t whole = 0;
  uint32_t fraction = 0;
  bool more = false;
  while (dot < size && text[dot] != '.')
    dot++;
  if (!decimal(text + from, dot - from, &whole) || whole >= SIZE_MAX_SANE)
    return false;
  uint32_t unit = 100000000;
  for (size_t i = dot + 1; i < size; i++) {
    if (text[i] < '0' || text[i] > '9')
      return false;
    fraction += unit * (uint32_t)(text[i] - '0');
    more = more || (unit == 0 && text[i] != '0');
    unit /= 10;
  }
  *seconds = negative ? -(int64_t)whole : (int64_t)whole;
  *nanoseconds = fraction;
  if (negative && (fraction != 0 || more)) {
    fraction += more ? 1 : 0;
    *seconds -= 1;
    *nanoseconds = 1000000000 - fraction;
  }
  return true;
}

/* ---- extended headers --------------------------------------------------- */

static bool is(const char *key, const char *name)
{
  while (*name != '\0' && *key == *name) {
    key++;
    name++;
  }
  return *key == *name;
}

/* A name of an extended header.  0, -1. */
static int say_name(struct untar *untar, char *to, size_t *to_size,
                    const char *value, size_t size)
{
  if (size > UNTAR_NAME_MAX)
    return stop(untar, JB_WORK_NAME);
  for (size_t i = 0; i < size; i++) {
    if (value[i] == '\0')
      return stop(untar, JB_WORK_PAX);
    to[i] = value[i];
  }
  to[size] = '\0';
  *to_size = size;
  return 0;
}

static int add_hole(struct untar *untar, uint64_t offset)
{
  if (untar->holes_count == UNTAR_HOLES_MAX)
    return stop(untar, JB_WORK_SPARSE);
  untar->holes[untar->holes_count] = (struct untar_hole){.offset = offset};
  return 0;
}

/* GNU.sparse.map: "offset,size,offset,size". */
static int sparse_list(struct untar *untar, const char *value, size_t size)
{
  size_t from = 0;
  bool offset = true;
  untar->holes_count = 0;
  if (size == 0)
    return 0;
  for (;;) {
    uint64_t number;
    size_t to = from;
    while (to < size && value[to] != ',')
      to++;
    if (!decimal(value + from, to - from, &number))
      return stop(untar, JB_WORK_SPARSE);
    if (offset && add_hole(untar, number) < 0)
      return -1;
    if (!offset)
      untar->holes[untar->holes_count++].size = number;
    offset = !offset;
    if (to == size)
      return offset ? 0 : stop(untar, JB_WORK_SPARSE);
    from = to + 1;
  }
}

/* A record about holes; *key* is what follows "GNU.sparse.". */
static int sparse_record(struct untar *untar, const char *key,
                         const char *value, size_t size)
{
  uint64_t number = 0;
  bool is_number = decimal(value, size, &number);
  if (is(key, "name")) {
    untar->sparse_fields |= SPARSE_NAME;
    return say_name(untar, untar->said.path, &untar->said.path_size, value,
                    size);
  }
  if (is(key, "map")) {
    untar->sparse_fields |= SPARSE_MAP;
    return sparse_list(untar, value, size);
  }
  if (!is_number)
    return stop(untar, JB_WORK_SPARSE);
  if (is(key, "size") || is(key, "realsize")) {
    untar->sparse_fields |= SPARSE_REAL_SIZE;
    untar->real_size = number;
  } else if (is(key, "major")) {
    untar->sparse_fields |= SPARSE_VERSION;
    untar->sparse_major = number;
  } else if (is(key, "minor")) {
    untar->sparse_minor = number;
  } else if (is(key, "offset")) {
    if ((untar->sparse_fields & SPARSE_OFFSET) != 0)
      return stop(untar, JB_WORK_SPARSE);
    untar->sparse_fields |= SPARSE_OFFSET | SPARSE_MAP;
    return add_hole(untar, number);
  } else if (is(key, "numbytes")) {
    if ((untar->sparse_fields & SPARSE_OFFSET) == 0)
      return stop(untar, JB_WORK_SPARSE);
    untar->sparse_fields &= ~SPARSE_OFFSET;
    untar->holes[untar->holes_count++].size = number;
  }
  return 0; /* numblocks says what can be counted */
}

static int number_record(struct untar *untar, uint64_t *out, const char *value,
                         size_t size)
{
  return decimal(value, size, out) ? 0 : stop(untar, JB_WORK_NUMBER);
}

/* One record of an extended header.  An empty value takes back what was said
 * before. */
static int record(struct untar *untar, bool global, const char *key,
                  const char *value, size_t size)
{
  struct untar_said *said = global ? &untar->global : &untar->said;
  uint32_t field = 0;
  int rc = 0;
  if (is(key, "path")) {
    field = SAID_PATH;
    /* The name before GNU.sparse.name is made up. */
    if ((untar->sparse_fields & SPARSE_NAME) == 0 || global)
      rc = say_name(untar, said->path, &said->path_size, value, size);
  } else if (is(key, "linkpath")) {
    field = SAID_LINK;
    rc = say_name(untar, said->link, &said->link_size, value, size);
  } else if (is(key, "size")) {
    field = SAID_SIZE;
    rc = size == 0 ? 0 : number_record(untar, &said->size, value, size);
  } else if (is(key, "uid")) {
    field = SAID_UID;
    rc = size == 0 ? 0 : number_record(untar, &said->uid, value, size);
  } else if (is(key, "gid")) {
    field = SAID_GID;
    rc = size == 0 ? 0 : number_record(untar, &said->gid, value, size);
  } else if (is(key, "mtime")) {
    field = SAID_MTIME;
    if (size != 0 && !time_number(value, size, &said->mtime_s, &said->mtime_ns))
      rc = stop(untar, JB_WORK_NUMBER);
  } else if (text_starts(key, "GNU.sparse.") && !global) {
    rc = sparse_record(untar, key + sizeof("GNU.sparse.") - 1, value, size);
    field = is(key, "GNU.sparse.name") ? SAID_PATH : 0;
  }
  if (size == 0)
    said->fields &= ~field;
  else
    said->fields |= field;
  return rc;
}

/* The length of the record at *at*, and where its key begins; 0: malformed. */
static size_t record_length(const char *at, size_t size, size_t *key)
{
  size_t digits = 0;
  uint64_t length = 0;
  while (digits < size && digits < 8 && at[digits] != ' ')
    digits++;
  if (digits == size || at[digits] != ' ' || !decimal(at, digits, &length) ||
      length > size || length < digits + 4 || at[length - 1] != '\n')
    return 0;
  *key = digits + 1;
  return (size_t)length;
}

/* What stands in untar->pax.  Each "=" and line end becomes a NUL, so that
 * keys and values are strings for whoever reads them later. */
static int records(struct untar *untar, bool global)
{
  char *all = untar->pax;
  for (size_t at = 0; at < untar->pax_size;) {
    size_t key;
    size_t length = record_length(all + at, untar->pax_size - at, &key);
    if (length == 0)
      return stop(untar, JB_WORK_PAX);
    size_t equals = key;
    while (equals < length - 1 && all[at + equals] != '=' &&
           all[at + equals] != '\0')
      equals++;
    if (equals == key || all[at + equals] != '=')
      return stop(untar, JB_WORK_PAX);
    all[at + equals] = '\0';
    all[at + length - 1] = '\0';
    if (record(untar, global, all + at + key, all + at + equals + 1,
               length - equals - 2) < 0)
      return -1;
    at += length;
  }
  if ((untar->sparse_fields & SPARSE_OFFSET) != 0)
    return stop(untar, JB_WORK_SPARSE);
  return 0;
}

/* Collect the content of an extended header, and what pads it. */
static int collect(struct untar *untar, uint64_t size)
{
  if (size > UNTAR_PAX_MAX)
    return stop(untar, JB_WORK_PAX_SIZE);
  untar->pax_size = 0;
  while (untar->pax_size < size) {
    size_t got;
    const char *bytes = piece(untar, size - untar->pax_size, &got);
    if (bytes == NULL)
      return -1;
    copy(untar->pax + untar->pax_size, bytes, got);
    untar->pax_size += got;
  }
  return skip(untar, padding(size));
}

/* GNU's way: a name as the content of an entry, with or without a NUL. */
static int long_name(struct untar *untar, uint64_t size, bool link)
{
  struct untar_said *said = &untar->said;
  if (size > UNTAR_NAME_MAX + 1)
    return stop(untar, JB_WORK_NAME);
  if (collect(untar, size) < 0)
    return -1;
  size_t length = 0;
  while (length < untar->pax_size && untar->pax[length] != '\0')
    length++;
  untar->pax_size = 0;
  said->fields |= link ? SAID_LINK : SAID_PATH;
  return say_name(untar, link ? said->link : said->path,
                  link ? &said->link_size : &said->path_size, untar->pax,
                  length);
}

bool untar_xattr(const struct untar_entry *entry, size_t *at,
                 struct untar_xattr *out)
{
  static const char prefix[] = "SCHILY.xattr.";
  while (*at < entry->records_size) {
    const char *record_at = entry->records + *at;
    size_t digits = 0;
    uint64_t length = 0;
    while (record_at[digits] != ' ')
      digits++;
    (void)decimal(record_at, digits, &length);
    const char *key = record_at + digits + 1;
    *at += (size_t)length;
    if (!text_starts(key, prefix))
      continue;
    size_t used = digits + 1 + text_length(key) + 1;
    out->name = key + sizeof(prefix) - 1;
    out->value = record_at + used;
    out->size = (size_t)length - used - 1;
    return true;
  }
  return false;
}

/* ---- holes -------------------------------------------------------------- */

static int old_sparse(struct untar *untar, const char *at, size_t count)
{
  for (size_t i = 0; i < count; i++, at += 24) {
    int64_t offset;
    int64_t size;
    if (at[0] == '\0')
      return 0;
    if (!field_number(at, 12, &offset) || !field_number(at + 12, 12, &size) ||
        offset < 0 || size < 0 || add_hole(untar, (uint64_t)offset) < 0)
      return stop(untar, JB_WORK_SPARSE);
    untar->holes[untar->holes_count++].size = (uint64_t)size;
  }
  return 0;
}

/* GNU's oldest map: four pieces in the header, more in blocks behind it. */
static int old_map(struct untar *untar, const char *header)
{
  int64_t real;
  bool more = header[AT_GNU_EXTENDED] != '\0';
  untar->holes_count = 0;
  if (!field_number(header + AT_GNU_REAL_SIZE, 12, &real) || real < 0)
    return stop(untar, JB_WORK_SPARSE);
  untar->real_size = (uint64_t)real;
  untar->sparse_fields |= SPARSE_REAL_SIZE | SPARSE_MAP;
  if (old_sparse(untar, header + AT_GNU_SPARSE, GNU_SPARSE_COUNT) < 0)
    return -1;
  while (more) {
    int rc = want_block(untar);
    if (rc <= 0)
      return rc < 0 ? rc : stop(untar, JB_WORK_TRUNCATED);
    const char *block = take(untar, UNTAR_BLOCK);
    if (old_sparse(untar, block, GNU_MORE_COUNT) < 0)
      return -1;
    more = block[AT_GNU_MORE_EXTENDED] != '\0';
  }
  return 0;
}

/* A line of a map that stands before the data: decimal digits. */
static int map_line(struct untar *untar, uint64_t *used, uint64_t stored,
                    uint64_t *out)
{
  uint64_t value = 0;
  for (size_t digits = 0;; digits++) {
    size_t got;
    if (*used == stored || digits > 19)
      return stop(untar, JB_WORK_SPARSE);
    const char *c = piece(untar, 1, &got);
    if (c == NULL)
      return -1;
    *used += 1;
    if (*c == '\n' && digits != 0) {
      *out = value;
      return 0;
    }
    if (*c < '0' || *c > '9' || value > SIZE_MAX_SANE / 10)
      return stop(untar, JB_WORK_SPARSE);
    value = value * 10 + (uint64_t)(*c - '0');
  }
}

/* GNU.sparse 1.0: the map precedes the data, padded to whole blocks.  *stored*
 * becomes what is left for data. */
static int leading_map(struct untar *untar, uint64_t *stored)
{
  uint64_t count;
  uint64_t used = 0;
  untar->holes_count = 0;
  if (map_line(untar, &used, *stored, &count) < 0)
    return -1;
  if (count > UNTAR_HOLES_MAX)
    return stop(untar, JB_WORK_SPARSE);
  for (uint64_t i = 0; i < count; i++) {
    struct untar_hole *hole = &untar->holes[untar->holes_count++];
    if (map_line(untar, &used, *stored, &hole->offset) < 0 ||
        map_line(untar, &used, *stored, &hole->size) < 0)
      return -1;
  }
  uint64_t pad = padding(used);
  if (used + pad > *stored)
    return stop(untar, JB_WORK_SPARSE);
  *stored -= used + pad;
  return skip(untar, pad);
}

/* Pieces in order, apart, inside of the file, and as much as there is. */
static int check_map(struct untar *untar, uint64_t stored)
{
  uint64_t end = 0;
  uint64_t sum = 0;
  if ((untar->sparse_fields & SPARSE_REAL_SIZE) == 0 ||
      untar->real_size > SIZE_MAX_SANE)
    return stop(untar, JB_WORK_SPARSE);
  for (size_t i = 0; i < untar->holes_count; i++) {
    const struct untar_hole *hole = &untar->holes[i];
    if (hole->offset < end || hole->offset > untar->real_size ||
        hole->size > untar->real_size - hole->offset)
      return stop(untar, JB_WORK_SPARSE);
    end = hole->offset + hole->size;
    sum += hole->size;
  }
  return sum == stored ? 0 : stop(untar, JB_WORK_SPARSE);
}

/* ---- headers ------------------------------------------------------------ */

/* The sum of all bytes, eight at a time. */
static uint32_t sum_of(const char *block)
{
  const uint64_t low = 0x00ff00ff00ff00ffu;
  uint64_t lanes = 0;
  for (size_t i = 0; i < UNTAR_BLOCK; i += 8) {
    uint64_t word;
    __builtin_memcpy(&word, block + i, 8);
    lanes += (word & low) + (word >> 8 & low);
  }
  lanes = (lanes & 0x0000ffff0000ffffu) + (lanes >> 16 & 0x0000ffff0000ffffu);
  return (uint32_t)(lanes + (lanes >> 32));
}

/* The checksum is taken with blanks in its own field; writers of old summed
 * signed characters. */
static bool adds_up(const char *header)
{
  int64_t want;
  uint32_t sum = sum_of(header);
  if (!octal(header + AT_CHECKSUM, 8, &want))
    return false;
  for (size_t i = 0; i < 8; i++)
    sum += (uint32_t)' ' - (unsigned char)header[AT_CHECKSUM + i];
  if (sum == (uint64_t)want)
    return true;
  int64_t with_sign = (int64_t)8 * ' ';
  for (size_t i = 0; i < UNTAR_BLOCK; i++)
    if (i < AT_CHECKSUM || i >= AT_CHECKSUM + 8)
      with_sign += (signed char)header[i];
  return with_sign == want;
}

static bool is_zero(const char *block)
{
  uint64_t any = 0;
  for (size_t i = 0; i < UNTAR_BLOCK; i += 8) {
    uint64_t word;
    __builtin_memcpy(&word, block + i, 8);
    any |= word;
  }
  return any == 0;
}

static size_t field_text(const char *field, size_t size, char *to)
{
  size_t length = 0;
  while (length < size && field[length] != '\0')
    length++;
  copy(to, field, length);
  to[length] = '\0';
  return length;
}

/* "ustar" and a NUL is POSIX; "ustar" and a space is GNU, whose header has
 * other things where the prefix is; star has a shorter prefix. */
static size_t header_name(const char *header, char *to)
{
  bool posix =
    text_starts(header + AT_MAGIC, "ustar") && header[AT_MAGIC + 5] == '\0';
  size_t room = PREFIX_SIZE;
  size_t length = 0;
  if (posix && header[AT_STAR_MAGIC] == 't' &&
      text_starts(header + AT_STAR_MAGIC, "tar") &&
      header[AT_STAR_MAGIC + 3] == '\0')
    room = STAR_PREFIX_SIZE;
  if (posix && header[AT_PREFIX] != '\0') {
    length = field_text(header + AT_PREFIX, room, to);
    to[length++] = '/';
  }
  return length + field_text(header + AT_NAME, 100, to + length);
}

static const struct untar_said *who_said(const struct untar *untar,
                                         uint32_t field)
{
  if ((untar->said.fields & field) != 0)
    return &untar->said;
  return (untar->global.fields & field) != 0 ? &untar->global : NULL;
}

static int entry_names(struct untar *untar, const char *header,
                       struct untar_entry *entry)
{
  const struct untar_said *said = who_said(untar, SAID_PATH);
  entry->path = said != NULL ? said->path : untar->path;
  entry->path_size =
    said != NULL ? said->path_size : header_name(header, untar->path);
  said = who_said(untar, SAID_LINK);
  entry->link = said != NULL ? said->link : untar->link;
  entry->link_size = said != NULL
                       ? said->link_size
                       : field_text(header + AT_LINK, 100, untar->link);
  return 0;
}

static int entry_owner(struct untar *untar, const char *header,
                       struct untar_entry *entry)
{
  int64_t uid;
  int64_t gid;
  const struct untar_said *said = who_said(untar, SAID_UID);
  if (said != NULL)
    uid = (int64_t)said->uid;
  else if (!field_number(header + AT_UID, 8, &uid))
    return stop(untar, JB_WORK_NUMBER);
  said = who_said(untar, SAID_GID);
  if (said != NULL)
    gid = (int64_t)said->gid;
  else if (!field_number(header + AT_GID, 8, &gid))
    return stop(untar, JB_WORK_NUMBER);
  if (uid < 0 || uid > ID_MAX || gid < 0 || gid > ID_MAX)
    return stop(untar, JB_WORK_NUMBER);
  entry->uid = (uint32_t)uid;
  entry->gid = (uint32_t)gid;
  return 0;
}

static int entry_time(struct untar *untar, const char *header,
                      struct untar_entry *entry)
{
  const struct untar_said *said = who_said(untar, SAID_MTIME);
  if (said != NULL) {
    entry->mtime_s = said->mtime_s;
    entry->mtime_ns = said->mtime_ns;
    return 0;
  }
  if (!field_number(header + AT_MTIME, 12, &entry->mtime_s))
    return stop(untar, JB_WORK_NUMBER);
  return 0;
}

static int entry_device(struct untar *untar, const char *header,
                        struct untar_entry *entry)
{
  int64_t major;
  int64_t minor;
  if (entry->type != UNTAR_CHARACTER && entry->type != UNTAR_BLOCK_DEVICE)
    return 0;
  if (!field_number(header + AT_MAJOR, 8, &major) ||
      !field_number(header + AT_MINOR, 8, &minor) || major < 0 ||
      major >= 1 << 12 || minor < 0 || minor >= 1 << 20)
    return stop(untar, JB_WORK_NUMBER);
  entry->major = (uint32_t)major;
  entry->minor = (uint32_t)minor;
  return 0;
}

/* What kind of entry a type flag is; 0: none that has a place in a tree. */
static int entry_type(char flag, const struct untar_entry *entry)
{
  bool slash =
    entry->path_size != 0 && entry->path[entry->path_size - 1] == '/';
  switch (flag) {
  case '\0':
  case '0':
    return slash ? UNTAR_DIRECTORY : UNTAR_FILE; /* v7 has no directories */
  case '7':                                      /* contiguous: a file */
  case 'S':                                      /* GNU sparse */
    return UNTAR_FILE;
  case 'D': /* GNU: a directory, with what is in it as content */
    return UNTAR_DIRECTORY;
  case '1':
  case '2':
  case '3':
  case '4':
  case '5':
  case '6':
    return flag;
  default:
    return 0;
  }
}

static int header_size(struct untar *untar, const char *header, uint64_t *out)
{
  int64_t size;
  if (!field_number(header + AT_SIZE, 12, &size) || size < 0 ||
      (uint64_t)size > SIZE_MAX_SANE)
    return stop(untar, JB_WORK_NUMBER);
  *out = (uint64_t)size;
  return 0;
}

/* ---- content ------------------------------------------------------------ */

static int content(struct untar *untar, uint64_t offset, uint64_t size)
{
  const struct untar_calls *calls = untar->calls;
  while (size != 0) {
    size_t got;
    const char *bytes = piece(untar, size, &got);
    if (bytes == NULL || calls->data(calls->context, offset, bytes, got) < 0)
      return -1;
    offset += got;
    size -= got;
    untar->bytes += got;
  }
  return 0;
}

static int pieces(struct untar *untar, const struct untar_entry *entry,
                  uint64_t stored)
{
  if (!entry->sparse)
    return content(untar, 0, stored);
  for (size_t i = 0; i < untar->holes_count; i++)
    if (content(untar, untar->holes[i].offset, untar->holes[i].size) < 0)
      return -1;
  return 0;
}

static int file_size(struct untar *untar, const char *header, char flag,
                     struct untar_entry *entry, uint64_t *stored, uint64_t *pad)
{
  uint32_t fields = untar->sparse_fields;
  entry->sparse = flag == 'S' || fields != 0;
  if (flag == 'S' && old_map(untar, header) < 0)
    return -1;
  *pad = padding(*stored);
  if (flag != 'S' && (fields & SPARSE_VERSION) != 0) {
    if (untar->sparse_major != 1 || untar->sparse_minor != 0)
      return stop(untar, JB_WORK_SPARSE);
    if (leading_map(untar, stored) < 0)
      return -1;
  }
  if (entry->sparse && check_map(untar, *stored) < 0)
    return -1;
  entry->size = entry->sparse ? untar->real_size : *stored;
  if (untar->max_bytes != 0 && entry->size > untar->max_bytes)
    return stop(untar, JB_WORK_MAX_BYTES);
  return 0;
}

/* An entry that has a place in the tree, with its content. */
static int member(struct untar *untar, const char *block, uint64_t size)
{
  const struct untar_calls *calls = untar->calls;
  struct untar_entry entry = {.index = untar->entry};
  char header[UNTAR_BLOCK]; /* the map of a sparse file may move the buffer */
  int64_t mode;
  copy(header, block, UNTAR_BLOCK);
  if (untar->max_entries != 0 && untar->entry >= untar->max_entries)
    return stop(untar, JB_WORK_MAX_ENTRIES);
  (void)entry_names(untar, header, &entry);
  int type = entry_type(header[AT_TYPE], &entry);
  if (type == 0)
    return stop(untar, JB_WORK_TYPE);
  entry.type = (enum untar_type)type;
  if (!field_number(header + AT_MODE, 8, &mode))
    return stop(untar, JB_WORK_NUMBER);
  entry.mode = (uint32_t)mode & 07777u;
  if (entry_owner(untar, header, &entry) < 0 ||
      entry_time(untar, header, &entry) < 0 ||
      entry_device(untar, header, &entry) < 0)
    return -1;
  const struct untar_said *said = who_said(untar, SAID_SIZE);
  uint64_t stored = said != NULL ? said->size : size;
  uint64_t pad = 0;
  if (stored > SIZE_MAX_SANE)
    return stop(untar, JB_WORK_NUMBER);
  /* Links, devices and the like have a size in some archives, and content in
   * none; what GNU lists for a directory is of no use. */
  bool lists = header[AT_TYPE] == 'D';
  if (entry.type != UNTAR_FILE && !lists)
    stored = 0;
  if (entry.type == UNTAR_FILE &&
      file_size(untar, header, header[AT_TYPE], &entry, &stored, &pad) < 0)
    return -1;
  entry.records = untar->pax;
  entry.records_size = untar->pax_size;
  if (calls->entry(calls->context, &entry) < 0)
    return -1;
  if (lists ? skip(untar, stored + padding(stored)) < 0
            : pieces(untar, &entry, stored) < 0)
    return -1;
  if (calls->end(calls->context, &entry) < 0 || skip_padding(untar, pad) < 0)
    return -1;
  untar->entry++;
  untar->pax_size = 0;
  untar->holes_count = 0;
  untar->sparse_fields = 0;
  untar->said.fields = 0;
  return 0;
}

/* ---- the archive -------------------------------------------------------- */

/* One header and what belongs to it. */
static int header(struct untar *untar, const char *block)
{
  uint64_t size;
  char flag = block[AT_TYPE];
  if (!adds_up(block))
    return stop(untar, JB_WORK_CHECKSUM);
  if (header_size(untar, block, &size) < 0)
    return -1;
  switch (flag) {
  case 'x':
  case 'X': /* the same, before it had a name */
  case 'g': {
    if (collect(untar, size) < 0)
      return -1;
    int rc = records(untar, flag == 'g');
    if (flag == 'g')
      untar->pax_size = 0;
    return rc;
  }
  case 'L':
  case 'K':
    return long_name(untar, size, flag == 'K');
  case 'V': /* GNU: the name of the archive */
    return skip(untar, size + padding(size));
  default:
    return member(untar, block, size);
  }
}

/* Behind the end marks may stand anything; whoever sends it wants it read. */
static int drain(struct untar *untar)
{
  int rc;
  do {
    untar->have = 0;
    rc = fill(untar);
  } while (rc > 0);
  return rc;
}

int untar(struct untar *untar)
{
  bool zero = false;
  for (;;) {
    int rc = want_block(untar);
    if (rc < 0)
      return rc;
    if (rc == 0) /* in the middle of something, unless nothing was begun */
      return untar->said.fields == 0 && untar->pax_size == 0
               ? 0
               : stop(untar, JB_WORK_TRUNCATED);
    const char *block = take(untar, UNTAR_BLOCK);
    if (is_zero(block)) {
      if (zero) {
        untar->ended = true;
        return drain(untar);
      }
      zero = true;
      continue;
    }
    zero = false;
    if (header(untar, block) < 0)
      return -1;
  }
}
