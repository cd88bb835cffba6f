/* test_tree.c - the file protocol without Python in the way.
 *
 *   test_tree DIRECTORY [SEED [ROUNDS]]
 *
 * works in an empty DIRECTORY, prints what failed, and ends with 0 if nothing
 * did.  Built with sanitizers by test_tree.py beside it. */
#include "tree_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void check(bool good, const char *what, int line)
{
  if (good)
    return;
  (void)printf("line %d: %s\n", line, what);
  failures++;
}

#define CHECK(condition) check((condition), #condition, __LINE__)

/* ---- patterns ---- */

static bool excluded(const char *pattern, const char *path)
{
  return tree_excluded(pattern, strlen(pattern) + 1, path, strlen(path));
}

static void test_patterns(void)
{
  CHECK(excluded("*.pyc", "a.pyc"));
  CHECK(excluded("*.pyc", "deep/er/a.pyc"));
  CHECK(!excluded("*.pyc", "a.py"));
  CHECK(excluded(".git", "sub/.git"));
  CHECK(!excluded(".git", ".github"));
  CHECK(excluded("a/b", "a/b"));
  CHECK(excluded("/a", "a"));
  CHECK(!excluded("/a", "b/a"));
  CHECK(!excluded("a/*", "a/b/c"));
  CHECK(excluded("a/**", "a/b/c"));
  CHECK(!excluded("a/**", "b/a/c"));
  CHECK(excluded("**/x", "x"));
  CHECK(excluded("**/x", "a/b/x"));
  CHECK(!excluded("**/x", "a/bx"));
  CHECK(excluded("a/**/x", "a/x"));
  CHECK(excluded("a/**/x", "a/b/c/x"));
  CHECK(!excluded("a/**/x", "a/b/cx"));
  CHECK(excluded("a/**/b/*.c", "a/b/b/x/b/y.c"));
  CHECK(excluded("?", "a"));
  CHECK(!excluded("a/?c", "a//c"));
  CHECK(excluded("[a-c]1", "b1"));
  CHECK(!excluded("[!a-c]1", "b1"));
  CHECK(excluded("[!a-c]1", "d1"));
  CHECK(excluded("[]]", "]"));
  CHECK(excluded("[a", "a")); /* unfinished: a class without an end */
  CHECK(!excluded("x[/]y/z", "x/y/z"));
  CHECK(!excluded("", "a"));
  CHECK(excluded("*", "anything"));
  CHECK(excluded("a*b*c", "aXbYbZc"));
  CHECK(!excluded("a*b*c", "aXbYbZ"));
  static const char several[] = "*.o\0build/**\0";
  CHECK(tree_excluded(several, sizeof(several) - 1, "x/y.o", 5));
  CHECK(tree_excluded(several, sizeof(several) - 1, "build/y", 7));
  CHECK(!tree_excluded(several, sizeof(several) - 1, "x/build", 7));
  /* What takes exponential time in a naive matcher. */
  char text[201];
  memset(text, 'a', 200);
  text[200] = '\0';
  CHECK(!excluded("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
}

/* ---- entries ---- */

struct made {
  struct jb_tree_entry fixed;
  char rest[64];
};

static bool parses(uint32_t mode, const char *name, size_t name_size,
                   const char *link, size_t link_size, size_t extra)
{
  struct made made = {.fixed = {.mode = mode,
                                .name_size = (uint32_t)name_size,
                                .link_size = (uint32_t)link_size}};
  struct tree_entry entry;
  memcpy(made.rest, name, name_size);
  memcpy(made.rest + name_size, link, link_size);
  return tree_entry_parse(&entry, (const uint8_t *)&made,
                          sizeof(made.fixed) + name_size + link_size + extra);
}

static void test_entries(void)
{
  CHECK(parses(S_IFREG | 0644, "a", 1, "", 0, 0));
  CHECK(!parses(S_IFREG | 0644, "a", 1, "", 0, 1));
  CHECK(!parses(S_IFREG | 0644, "", 0, "", 0, 0));
  CHECK(!parses(S_IFREG | 0644, ".", 1, "", 0, 0));
  CHECK(!parses(S_IFREG | 0644, "..", 2, "", 0, 0));
  CHECK(parses(S_IFREG | 0644, "...", 3, "", 0, 0));
  CHECK(!parses(S_IFREG | 0644, "a/b", 3, "", 0, 0));
  CHECK(!parses(S_IFREG | 0644, "/", 1, "", 0, 0));
  CHECK(!parses(S_IFREG | 0644, "a\0b", 3, "", 0, 0));
  CHECK(!parses(S_IFREG | 0644, "a", 1, "x", 1, 0));
  CHECK(parses(S_IFLNK | 0777, "a", 1, "../../x", 7, 0));
  CHECK(!parses(S_IFLNK | 0777, "a", 1, "", 0, 0));
  CHECK(!parses(S_IFLNK | 0777, "a", 1, "x\0y", 3, 0));
  CHECK(!parses(0, "a", 1, "", 0, 0));
  CHECK(!parses(0xffffffff, "a", 1, "", 0, 0));
  CHECK(!parses(S_IFREG | 010000000, "a", 1, "", 0, 0));
}

/* ---- a hostile stream ---- */

static uint64_t random_state;

static uint32_t any(uint32_t below)
{
  random_state = random_state * 6364136223846793005U + 1442695040888963407U;
  return (uint32_t)(random_state >> 33) % below;
}

static size_t frame(uint8_t *out, uint32_t type, const void *payload,
                    size_t size)
{
  struct jb_tree_frame head = {.type = type, .size = (uint32_t)size};
  memcpy(out, &head, sizeof(head));
  memcpy(out + sizeof(head), payload, size);
  return sizeof(head) + size;
}

/* A frame that is likely to be taken, so that depth is reached. */
static size_t plausible(uint8_t *out)
{
  static const char *const names[] = {"a",    "b",  "c", "up",  "link",
                                      ".jb-", "..", ".", "a/b", ""};
  static const char *const links[] = {"..", "../../outside", "../outside", "a",
                                      "up/x"};
  static const uint32_t modes[] = {
    S_IFDIR | 0755, S_IFREG | 0644, S_IFLNK | 0777, S_IFREG | 06755,
    S_IFIFO | 0600, S_IFCHR | 0666, S_IFDIR,        S_IFSOCK | 0777};
  uint8_t payload[256];
  uint64_t hole = (uint64_t)any(1000) << any(60);
  switch (any(8)) {
  case 0:
  case 1:
  case 2:
  case 3: {
    const char *name = names[any(any(20) == 0 ? 10 : 6)];
    const char *link = links[any(sizeof(links) / sizeof(*links))];
    uint32_t mode = modes[any(any(4) == 0 ? 8 : 3)];
    if ((mode & S_IFMT) != S_IFLNK)
      link = "";
    struct jb_tree_entry entry = {.mode = mode,
                                  .flags = (mode & S_IFMT) == S_IFREG ||
                                           (mode & S_IFMT) == S_IFDIR,
                                  .size = any(2) ? 3 : (uint64_t)-1,
                                  .name_size = (uint32_t)strlen(name),
                                  .link_size = (uint32_t)strlen(link)};
    memcpy(payload, &entry, sizeof(entry));
    memcpy(payload + sizeof(entry), name, strlen(name));
    memcpy(payload + sizeof(entry) + strlen(name), link, strlen(link));
    return frame(out, JB_TREE_ENTRY, payload,
                 sizeof(entry) + strlen(name) + strlen(link));
  }
  case 4:
    return frame(out, JB_TREE_DATA, "data", 4);
  case 5:
    return frame(out, JB_TREE_HOLE, &hole, sizeof(hole));
  case 6:
    return frame(out, JB_TREE_END, "", 0);
  default:
    if (any(10) != 0)
      return frame(out, JB_TREE_END, "", 0);
    struct jb_tree_answer answer = {.error = (int32_t)any(3)};
    return frame(out, JB_TREE_ANSWER, &answer, sizeof(answer));
  }
}

static int socket_pair(int fds[2])
{
  return (int)JB_CALL4(__NR_socketpair, JB_AF_UNIX,
                       JB_SOCK_STREAM | JB_SOCK_CLOEXEC, 0, fds);
}

/* Feed one random stream to a job of the given kind; how many entries it
 * believed. */
static uint64_t feed(int dir, int kind)
{
  static uint8_t stream[65536];
  int fds[2], error;
  struct made top = {
    .fixed = {.mode = S_IFDIR | 0755, .flags = JB_TREE_OPEN, .name_size = 1},
    .rest = "x"};
  size_t size = any(10) == 0
                  ? 0
                  : frame(stream, JB_TREE_ENTRY, &top, sizeof(top.fixed) + 1);
  while (size < 6000 && any(80) != 0) {
    size_t from = size;
    size += plausible(stream + size);
    if (any(60) == 0) /* break something */
      stream[from + any((uint32_t)(size - from))] ^= (uint8_t)(1u << any(8));
  }
  if (socket_pair(fds) < 0)
    exit(2);
  struct jb_tree_limits limits = {.entries = 1000, .bytes = 1 << 20};
  limits.depth = 1 + any(256);
  uint8_t request[8] = {0};
  struct jb_tree_job *job =
    kind == 0 ? jb_tree_receive(fds[0], request, sizeof(request), dir, "got",
                                any(4), &limits, &error)
              : jb_tree_ask(fds[0], request, sizeof(request), &limits, &error);
  size_t sent = 0;
  int wants = 0;
  for (int i = 0; i < 1000; i++) {
    size_t piece = any(3) == 0 ? any(64) : size;
    if (piece > size - sent)
      piece = size - sent;
    struct jb_iovec part = {.base = stream + sent, .length = piece};
    struct jb_msghdr message = {.iov = &part, .iov_count = 1};
    if (piece > 0 &&
        sys_sendmsg(fds[1], &message, JB_MSG_NOSIGNAL | JB_MSG_DONTWAIT) > 0)
      sent += piece;
    if (sent == size)
      tree_shut(&fds[1]);
    wants = jb_tree_step(job);
    size_t frames;
    const uint8_t *at = jb_tree_frames(job, &frames);
    /* Each byte is looked at, so that the sanitizer sees what is promised. */
    uint8_t sum = 0;
    for (size_t k = 0; k < frames; k++)
      sum ^= at[k];
    __asm__ volatile("" ::"r"(sum));
    if (wants == JB_TREE_DONE)
      break;
  }
  CHECK(wants == JB_TREE_DONE);
  uint64_t entries = jb_tree_report(job)->entries;
  jb_tree_free(job);
  tree_shut(&fds[0]);
  tree_shut(&fds[1]);
  return entries;
}

static void test_hostile(const char *directory, uint64_t seed, int rounds)
{
  random_state = seed;
  int dir =
    (int)sys_openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  CHECK(dir >= 0);
  CHECK(sys_mkdirat(dir, "in", 0700) == 0);
  CHECK(sys_mkdirat(dir, "outside", 0700) == 0);
  int in = (int)sys_openat(dir, "in", O_RDONLY | O_DIRECTORY, 0);
  uint64_t entries = 0;
  int error;
  struct tree_space *space = tree_space_make(sizeof(*space), &error);
  for (int i = 0; i < rounds; i++) {
    entries += feed(in, any(4) == 0);
    /* Mostly from the beginning, else onto what was there. */
    if (any(4) != 0)
      (void)tree_remove(space, &space->report, in, "got", true);
  }
  (void)sys_munmap(space, sizeof(*space));
  /* A test of what is refused at once would prove little. */
  CHECK(entries > (uint64_t)rounds);
  /* Whatever was said: all of it is below the name that was given, and nothing
   * unfinished is left. */
  struct tree_list list = {.fd = in, .dents = malloc(TREE_DENTS)};
  struct tree_dirent entry;
  while (tree_list_next(&list, &entry) > 0)
    CHECK(strcmp(entry.name, "got") == 0);
  int outside = (int)sys_openat(dir, "outside", O_RDONLY | O_DIRECTORY, 0);
  list = (struct tree_list){.fd = outside, .dents = list.dents};
  CHECK(tree_list_next(&list, &entry) == 0);
  free(list.dents);
  tree_shut(&outside);
  tree_shut(&in);
  tree_shut(&dir);
}

/* ---- a hostile request ---- */

static void test_agent(const char *directory, int rounds)
{
  int dir =
    (int)sys_openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  struct jb_tree_roots roots = {
    .root = dir, .upper = dir, .lower = -1, .merged = -1};
  static uint8_t stream[65536];
  for (int i = 0; i < rounds; i++) {
    int fds[2];
    size_t size = 0;
    while (size < 4000 && any(10) != 0) {
      char path[16];
      static const char letters[] = "ab/..l\0";
      struct jb_tree_request request = {.flags = any(1 << 15),
                                        .depth = any(3),
                                        .path_size = any(8),
                                        .second_size = any(8)};
      uint8_t payload[sizeof(request) + 16];
      request.flags &= ~JB_TREE_OWNER;
      for (size_t k = 0; k < sizeof(path); k++)
        path[k] = letters[any(sizeof(letters) - 1)];
      memcpy(payload, &request, sizeof(request));
      memcpy(payload + sizeof(request), path, 16);
      size_t from = size;
      size += frame(stream + size, 1 + any(9), payload,
                    sizeof(request) + request.path_size + request.second_size);
      if (any(30) == 0)
        stream[from + any((uint32_t)(size - from))] ^= (uint8_t)(1u << any(8));
      for (uint32_t k = any(6); k > 0; k--)
        size += plausible(stream + size);
      if (any(2) == 0) {
        struct jb_tree_finish finish = {.abort = any(2)};
        size += frame(stream + size, JB_TREE_FINISH, &finish, sizeof(finish));
      }
    }
    if (socket_pair(fds) < 0)
      exit(2);
    struct jb_iovec part = {.base = stream, .length = size};
    struct jb_msghdr message = {.iov = &part, .iov_count = 1};
    CHECK(sys_sendmsg(fds[1], &message, 0) == (long)size || size == 0);
    /* Answers stay in the socket, which holds all of them. */
    (void)JB_CALL2(__NR_shutdown, fds[1], 1);
    (void)jb_tree_serve(fds[0], &roots, NULL);
    tree_shut(&fds[0]);
    tree_shut(&fds[1]);
  }
  struct tree_list list = {.fd = dir, .dents = malloc(TREE_DENTS)};
  struct tree_dirent entry;
  while (tree_list_next(&list, &entry) > 0)
    CHECK(entry.size != 20 || strncmp(entry.name, ".jb-", 4) != 0);
  free(list.dents);
  tree_shut(&dir);
}

int main(int argc, char **argv)
{
  if (argc < 2)
    return 2;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  int rounds = argc > 3 ? atoi(argv[3]) : 2000;
  char inner[4096];
  test_patterns();
  test_entries();
  test_hostile(argv[1], seed, rounds);
  (void)snprintf(inner, sizeof(inner), "%s/in", argv[1]);
  test_agent(inner, rounds);
  return failures == 0 ? 0 : 1;
}
