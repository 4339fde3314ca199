// What the network's benchmark runs inside of network namespaces: a TCP server and what loads it, and CNI plugins called one
// after another with nothing around them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char block[128 << 10];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sockaddr_in address_of(const char *ip, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) fail(ip);
  return address;
}

static int connected(const struct sockaddr_in *to) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0) fail("connect");
  return fd;
}

// serve PORT: reads what comes, one connection after another
static _Noreturn void serve(const char *port) {
  struct sockaddr_in any = address_of("0.0.0.0", port);
  int on = 1;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
      bind(listener, (struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 512) < 0) {
    fail("listen");
  }
  puts("ready");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    while (read(fd, block, sizeof block) > 0) {
    }
    close(fd);
  }
}

// send IP PORT SECONDS: prints bytes a second, from the first one to the end that the server has seen
static int send_all(const char *ip, const char *port, double seconds) {
  struct sockaddr_in to = address_of(ip, port);
  int fd = connected(&to);
  double begun = now();
  double bytes = 0;
  while (now() - begun < seconds) {
    ssize_t sent = write(fd, block, sizeof block);
    if (sent < 0) fail("write");
    bytes += (double)sent;
  }
  shutdown(fd, SHUT_WR);
  if (read(fd, block, 1) < 0) fail("read");
  printf("%.0f\n", bytes / (now() - begun));
  return 0;
}

// connect IP PORT SECONDS: prints connections a second
static int connect_all(const char *ip, const char *port, double seconds) {
  struct sockaddr_in to = address_of(ip, port);
  struct linger reset = {.l_onoff = 1, .l_linger = 0};  // no TIME_WAIT, of which there are not enough
  double begun = now();
  double count = 0;
  for (; now() - begun < seconds; count++) {
    int fd = connected(&to);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
  }
  printf("%.0f\n", count / (now() - begun));
  return 0;
}

// Runs a plugin with a configuration; its output goes to `output`.
static void plugin(const char *path, const char *configuration, char *output, size_t size) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) fail("pipe2");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  pid_t pid;
  char *argv[] = {(char *)path, NULL};
  int error = posix_spawn(&pid, path, &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    errno = error;
    fail(path);
  }
  close(in[0]);
  close(out[1]);
  if (write(in[1], configuration, strlen(configuration)) < 0) fail("write");
  close(in[1]);
  size_t used = 0;
  for (ssize_t got; (got = read(out[0], output + used, size - used - 1)) > 0;) used += (size_t)got;
  output[used] = 0;
  close(out[0]);
  int status;
  waitpid(pid, &status, 0);
  if (status != 0) {
    fprintf(stderr, "%s: %s\n", path, output);
    exit(1);
  }
}

// cni DIRECTORY TYPE CONFIGURATION [TYPE CONFIGURATION]...: prints the milliseconds that all took. Each configuration but
// the first lacks its end: "prevResult":, which the plugin before it prints.
static int call_plugins(int count, char **arguments) {
  static char result[1 << 20], configuration[2 << 20], path[4096];
  double begun = now();
  for (int i = 1; i + 1 < count; i += 2) {
    snprintf(path, sizeof path, "%s/%s", arguments[0], arguments[i]);
    if (i == 1) {
      snprintf(configuration, sizeof configuration, "%s", arguments[i + 1]);
    } else {
      snprintf(configuration, sizeof configuration, "%s%s}", arguments[i + 1], result);
    }
    plugin(path, configuration, result, sizeof result);
  }
  printf("%.3f\n", (now() - begun) * 1e3);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) serve(argv[2]);
  if (argc == 5 && strcmp(argv[1], "send") == 0) return send_all(argv[2], argv[3], atof(argv[4]));
  if (argc == 5 && strcmp(argv[1], "connect") == 0) return connect_all(argv[2], argv[3], atof(argv[4]));
  if (argc >= 5 && strcmp(argv[1], "cni") == 0) return call_plugins(argc - 2, argv + 2);
  fprintf(stderr, "usage: serve PORT | send IP PORT SECONDS | connect IP PORT SECONDS | cni DIRECTORY TYPE CONFIGURATION...\n");
  return 2;
}
