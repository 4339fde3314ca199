// The log writer as a whole: threads, files and pipes.
#include "monitor/cri_log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "monitor/check.h"

namespace {

using namespace berth;

class Watcher final : public LogObserver {
 public:
  explicit Watcher(EventLoop& loop) : loop_(loop) {}
  void on_log_opened(int errno_value) override {
    opened = errno_value;
    loop_.stop();
  }
  void on_log_finished() override {
    finished = true;
    loop_.stop();
  }
  void on_log_dropped(const LogDropped& dropped) override { dropped_bytes += dropped.bytes; }
  void on_attached_input_ended() override {
    input_ended = true;
    loop_.stop();
  }
  int opened = -1;
  bool finished = false;
  bool input_ended = false;
  uint64_t dropped_bytes = 0;

 private:
  EventLoop& loop_;
};

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Pipe make_pipe() {
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// The records' texts, each with its tag and stream in front.
std::string texts_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::string texts;
  while (std::getline(file, line)) texts += line.substr(31) + "\n";
  return texts;
}

class Test {
 public:
  Test() {
    CHECK(loop_.open() && writer_.start());
    char name[] = "/tmp/berth-log-XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    directory_ = name;
  }
  ~Test() { CHECK(rmdir(directory_.c_str()) == 0); }

  void test_life() {
    const std::string path = directory_ + "/0.log";
    Watcher watcher(loop_);
    ContainerLog* log = open(path, watcher);
    CHECK(watcher.opened == 0);
    struct stat status = {};
    CHECK(stat(path.c_str(), &status) == 0 && (status.st_mode & 07777) == 0640);
    Pipe out = make_pipe();
    Pipe err = make_pipe();
    writer_.read_from(log, std::move(out.read_end), std::move(err.read_end));
    CHECK(write(out.write_end.get(), "one\ntw", 6) == 6);
    wait_for(path, "stdout F one\n");
    // Rotation: what was begun before it is whole in the new file.
    CHECK(rename(path.c_str(), (path + ".old").c_str()) == 0);
    watcher.opened = -1;
    writer_.reopen(log);
    run_until([&] { return watcher.opened >= 0; });
    CHECK(watcher.opened == 0 && write(out.write_end.get(), "o\nend", 5) == 5);
    out.write_end.reset();
    CHECK(write(err.write_end.get(), "bad\n", 4) == 4);
    // Somebody else still holds the pipe: finish() does not wait for it.
    writer_.finish(log);
    run_until([&] { return watcher.finished; });
    writer_.release(log, false);
    CHECK(texts_of(path + ".old") == "stdout F one\n");
    const std::string texts = texts_of(path);
    CHECK(texts == "stdout F two\nstdout P end\nstderr F bad\n" || texts == "stdout F two\nstderr F bad\nstdout P end\n");
    CHECK(unlink((path + ".old").c_str()) == 0 && unlink(path.c_str()) == 0);
  }

  void test_refused() {
    Watcher watcher(loop_);
    writer_.release(open(directory_ + "/missing/0.log", watcher), true);
    CHECK(watcher.opened == ENOENT);
    const std::string fifo = directory_ + "/fifo";
    CHECK(mkfifo(fifo.c_str(), 0600) == 0);
    watcher.opened = -1;
    writer_.release(open(fifo, watcher), true);
    CHECK(watcher.opened == ENXIO || watcher.opened == EINVAL);
    const std::string link = directory_ + "/link";
    CHECK(symlink("fifo", link.c_str()) == 0);
    watcher.opened = -1;
    writer_.release(open(link, watcher), true);
    CHECK(watcher.opened == ELOOP);
    CHECK(unlink(link.c_str()) == 0 && unlink(fifo.c_str()) == 0);
  }

  // A container that is not created after all takes along only a file that was made for it.
  void test_unlink_made() {
    const std::string path = directory_ + "/1.log";
    Watcher watcher(loop_);
    writer_.release(open(path, watcher), true);
    CHECK(access(path.c_str(), F_OK) != 0);
    CHECK(UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
    watcher.opened = -1;
    writer_.release(open(path, watcher), true);
    CHECK(access(path.c_str(), F_OK) == 0 && unlink(path.c_str()) == 0);
  }

  void test_thrown_away() {
    Watcher watcher(loop_);
    ContainerLog* log = open("", watcher);
    Pipe out = make_pipe();
    writer_.read_from(log, std::move(out.read_end), UniqueFd());
    const std::string lines(1 << 20, '\n');
    CHECK(write(out.write_end.get(), lines.data(), lines.size()) == static_cast<ssize_t>(lines.size()));
    out.write_end.reset();
    run_until([&] { return watcher.finished; });
    writer_.release(log, true);
  }

  // More than its socket, what is held for it and the pipe can take: the stream waits for the one attached.
  void test_attached() {
    constexpr size_t kBytes = 2 << 20;
    Watcher watcher(loop_);
    ContainerLog* log = open("", watcher);
    std::array<UniqueFd, Attachment::kStreams> peers;
    writer_.attach(log, Attachment::make(true, {true, true}, peers));
    std::array<UniqueFd, Attachment::kStreams> leavers;
    writer_.attach(log, Attachment::make(true, {true, false}, leavers));
    CHECK(peers[0] && peers[1] && leavers[0] && !leavers[1]);
    Pipe out = make_pipe();
    Pipe err = make_pipe();
    CHECK(fcntl(out.write_end.get(), F_SETFL, O_NONBLOCK) == 0);
    writer_.read_from(log, std::move(out.read_end), std::move(err.read_end));
    leavers[0].reset();
    run_until([&] { return watcher.input_ended; });
    watcher.input_ended = false;
    CHECK(shutdown(peers[0].get(), SHUT_WR) == 0);
    run_until([&] { return watcher.input_ended; });
    const std::string block(kReadBytes, 'x');
    size_t written = 0;
    size_t received = 0;
    size_t longest_wait = 0;
    std::string buffer(kReadBytes, '\0');
    while (received < kBytes) {
      const ssize_t sent = write(out.write_end.get(), block.data(), std::min(block.size(), kBytes - written));
      if (sent > 0) written += static_cast<size_t>(sent);
      longest_wait = std::max(longest_wait, written - received);
      // Now and then only, so that it is late.
      if (sent > 0 && written < kBytes) continue;
      const ssize_t got = read(peers[0].get(), buffer.data(), buffer.size());
      if (got > 0) received += static_cast<size_t>(got);
      if (got < 0 && errno == EAGAIN) usleep(100);
      if (written == kBytes) out.write_end.reset();
    }
    CHECK(written == kBytes && received == kBytes && longest_wait < kBytes);
    err.write_end.reset();
    run_until([&] { return watcher.finished; });
    wait_for_end(peers[0].get());
    wait_for_end(peers[1].get());
    writer_.release(log, true);
  }

  void test_limited() {
    Watcher watcher(loop_);
    ContainerLog* log = writer_.open(Log{"", 0, 1000000}, watcher);
    run_until([&] { return watcher.opened >= 0; });
    Pipe out = make_pipe();
    writer_.read_from(log, std::move(out.read_end), UniqueFd());
    const std::string lines(400000, '\n');
    const uint64_t begun = monotonic_ms();
    CHECK(write(out.write_end.get(), lines.data(), lines.size()) == static_cast<ssize_t>(lines.size()));
    out.write_end.reset();
    run_until([&] { return watcher.finished; });
    CHECK(monotonic_ms() - begun > 150);
    writer_.release(log, true);
  }

 private:
  static void wait_for_end(int fd) {
    char byte;
    for (;;) {
      const ssize_t got = read(fd, &byte, 1);
      if (got == 0) return;
      CHECK(got > 0 || errno == EAGAIN);
      usleep(100);
    }
  }

  ContainerLog* open(const std::string& path, Watcher& watcher) {
    ContainerLog* log = writer_.open(Log{path, 0, 0}, watcher);
    run_until([&] { return watcher.opened >= 0; });
    return log;
  }
  template <typename Condition>
  void run_until(Condition condition) {
    while (!condition()) loop_.run();
  }
  void wait_for(const std::string& path, const std::string& texts) {
    for (int turn = 0; turn < 5000 && texts_of(path) != texts; ++turn) usleep(1000);
    CHECK(texts_of(path) == texts);
  }

  EventLoop loop_;
  LogWriter writer_{loop_};
  std::string directory_;
};

}  // namespace

int main() {
  // Not destroyed: the writer's thread goes on until the process ends.
  static Test& test = *new Test;
  test.test_life();
  test.test_refused();
  test.test_unlink_made();
  test.test_attached();
  test.test_limited();
  test.test_thrown_away();
  test.~Test();
  _exit(0);
}
