/* test_helper.c - records that are broken in every way, read by the helper.
 *
 *   test_helper SEED ROUNDS RECORD...
 *
 * Each RECORD is a file with a record as the library writes it.  In each round
 * a keeper lives, on a kernel that answers by chance (fake_kernel.h): it gets
 * these records in any order, some of them as they are and some damaged, and
 * so do the inits, monitors and workers that it becomes.  A round ends with
 * them; what is wrong is found by the sanitizers. */
#include "fake_kernel.h"
#include "jails.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX 64
#define LARGE_MAX ((size_t)1 << 18)
#define CALLS_MAX 4000

struct seed {
  char *bytes;
  size_t size;
};

static struct seed seeds[RECORDS_MAX];
static size_t seed_count;
static bool configured;
static char large[LARGE_MAX];
static char *drawn;

static uint32_t kind_of(const struct seed *seed)
{
  uint32_t kind;
  memcpy(&kind, seed->bytes, sizeof(kind));
  return kind;
}

/* Numbers at which something ends. */
static uint32_t edge(size_t size)
{
  static const uint32_t edges[] = {
    0,        1,   2,   3,   4,    7,     8,          63,         64,
    65,       249, 250, 255, 599,  600,   601,        1023,       1024,
    1u << 31, 256, 16,  17,  4096, 65535, 0x7fffffff, 0x80000000, 0xfffffffe};
  switch (any(4)) {
  case 0:
    return (uint32_t)size + any(3) - 1;
  case 1:
    return any((uint32_t)size + 16);
  case 2:
    return any(~0u);
  default:
    return edges[any(sizeof(edges) / sizeof(edges[0]))];
  }
}

static size_t damage(char *bytes, size_t size, size_t room)
{
  for (uint32_t times = any(6); times != 0 && size >= 8; times--) {
    uint32_t number = edge(size);
    /* What is fixed stands in front, and says where the rest is. */
    size_t front = size < 500 || any(2) == 0 ? size : 500;
    size_t at = any((uint32_t)front - 4);
    switch (any(6)) {
    case 0:
      bytes[at] = (char)any(256);
      break;
    case 1:
      size = any((uint32_t)size + 1);
      break;
    case 2:
      if (size < room)
        bytes[size++] = (char)any(256);
      break;
    default:
      memcpy(bytes + at / 4 * 4, &number, sizeof(number));
    }
  }
  return size;
}

/* The first letter is a keeper's configuration, the others are requests. */
static const struct seed *choose(void)
{
  for (;;) {
    const struct seed *seed = &seeds[any((uint32_t)seed_count)];
    if (configured || kind_of(seed) == JB_MESSAGE_CONFIGURE || any(200) == 0)
      return seed;
  }
}

static void deliver(char *buffer, size_t room, struct letter *letter)
{
  const struct seed *seed = choose();
  configured = true;
  letter->fds = any(3) == 0 ? any(JB_FDS_MAX + 4) : 4 + any(24);
  if (any(40) == 0)
    return; /* the end of file */
  if (seed->size > room || any(8) == 0) {
    struct jb_large outer = {.message = JB_MESSAGE_LARGE};
    memcpy(large, seed->bytes, seed->size);
    letter->large = large;
    letter->large_size =
      any(4) == 0 ? seed->size : damage(large, seed->size, LARGE_MAX);
    outer.size = any(8) == 0 ? edge(seed->size) : (uint32_t)letter->large_size;
    letter->size = sizeof(outer);
    memcpy(buffer, &outer, sizeof(outer));
    return;
  }
  memcpy(buffer, seed->bytes, seed->size);
  letter->size = any(4) == 0 ? seed->size : damage(buffer, seed->size, room);
}

/* ---- where a round begins ------------------------------------------------ */

/* A request in memory of just its size, so that nobody reads past it. */
static char *draw(uint32_t kind, size_t *size)
{
  const struct seed *seed;
  do
    seed = &seeds[any((uint32_t)seed_count)];
  while (kind_of(seed) != kind);
  memcpy(large, seed->bytes, seed->size);
  *size = any(3) == 0 ? seed->size : damage(large, seed->size, LARGE_MAX);
  drawn = malloc(*size != 0 ? *size : 1);
  if (drawn == NULL)
    exit(2);
  memcpy(drawn, large, *size);
  return drawn;
}

static size_t some_fds(int *fds)
{
  size_t count = 4 + any(8);
  for (size_t i = 0; i < count; i++)
    fds[i] = 10 + (int)i;
  return count;
}

/* A keeper that is asked for a jail, and becomes it. */
static void play_jail(void)
{
  int fds[16];
  struct keeper keeper = {.self = 5, .template = 6, .ready_count = 1};
  struct record record = {.base = draw(JB_MESSAGE_START, &record.size)};
  keeper.ids = (struct ids){.rootless = any(2) == 0, .count = 65536};
  keeper.ready[0] = (struct userns){.fd = 7, .base = 100000};
  keeper.outlive = any(2) == 0;
  visitors_none(&keeper.visitors);
  for (size_t i = 0; i < JB_PREPARED_MAX; i++)
    keeper.prepared[i] = any(2) == 0 ? 8 : -1;
  jail_start(&keeper, &record, fds, some_fds(fds));
}

/* ... or for work, and becomes a worker. */
static void play_worker(void)
{
  int fds[16];
  struct workers workers = {0};
  struct labor labor = {.fds = fds, .template = 6, .keeper = 5};
  labor.record.base = draw(JB_MESSAGE_WORK, &labor.record.size);
  labor.fd_count = some_fds(fds);
  labor.rootless = any(2) == 0;
  workers_start(&workers, &labor);
}

static void load(const char *path)
{
  char buffer[LARGE_MAX];
  FILE *file = fopen(path, "rb");
  size_t size = file == NULL ? 0 : fread(buffer, 1, sizeof(buffer), file);
  struct seed *seed = &seeds[seed_count++];
  if (size < 8) {
    (void)fprintf(stderr, "%s: no record\n", path);
    exit(2);
  }
  (void)fclose(file);
  seed->bytes = malloc(size);
  seed->size = size;
  memcpy(seed->bytes, buffer, size);
}

int main(int argc, char **argv)
{
  if (argc < 4 || argc - 3 > RECORDS_MAX)
    return 2;
  uint64_t seed = strtoull(argv[1], NULL, 10);
  uint64_t rounds = strtoull(argv[2], NULL, 10);
  for (int i = 3; i < argc; i++)
    load(argv[i]);
  for (uint64_t round = 0; round < rounds; round++) {
    static const uint32_t lucks[] = {0, 0, 2000, 300, 40};
    chance_seed(seed + round);
    configured = false;
    /* So that what is found can be looked at alone: SEED + ROUND, one round. */
    if (getenv("TELL") != NULL)
      (void)fprintf(stderr, "round %llu\n", (unsigned long long)(seed + round));
    uint32_t luck = lucks[any(5)];
    uint32_t role = any(8);
    if (role < 2)
      kernel_run(keeper_main, deliver, luck, CALLS_MAX, false);
    else
      kernel_run(role < 6 ? play_jail : play_worker, deliver, luck, CALLS_MAX,
                 true);
    free(drawn);
    drawn = NULL;
  }
  for (size_t i = 0; i < seed_count; i++)
    free(seeds[i].bytes);
  return 0;
}
