// Preloaded into the agent: ends it with SIGKILL at the n-th call that changes something on the machine. n stands in the file
// that KILL_AT_CALL names, as a number of four bytes that each call makes one less; 0: nothing is counted.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static _Atomic int32_t *left;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("KILL_AT_CALL");
  int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *map = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) left = map;
  close(fd);
  // what the agent starts is not it
  unsetenv("LD_PRELOAD");
  unsetenv("KILL_AT_CALL");
}

static void count(void) {
  if (left == NULL || *left <= 0) return;
  if (--*left == 0) kill(getpid(), SIGKILL);
}

#define COUNTED(type, name, parameters, arguments)                       \
  type name parameters {                                                 \
    static type(*next) parameters;                                       \
    if (next == NULL) next = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    count();                                                             \
    return next arguments;                                               \
  }

// netlink; the monitor's socket
COUNTED(ssize_t, sendto, (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length),
        (fd, data, size, flags, to, length))
COUNTED(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
COUNTED(int, mount, (const char *from, const char *to, const char *type, unsigned long flags, const void *data),
        (from, to, type, flags, data))
COUNTED(int, umount2, (const char *path, int flags), (path, flags))
COUNTED(int, rename, (const char *from, const char *to), (from, to))
COUNTED(int, unlink, (const char *path), (path))
COUNTED(int, mkdir, (const char *path, mode_t mode), (path, mode))
COUNTED(int, rmdir, (const char *path), (path))
COUNTED(int, fdatasync, (int fd), (fd))

// of files: records, cgroups' settings; what goes on between threads is no step
ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*next)(int, const void *, size_t);
  if (next == NULL) next = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  struct stat status;
  if (left != NULL && *left > 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) count();
  return next(fd, data, size);
}
