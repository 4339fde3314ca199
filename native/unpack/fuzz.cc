// A fuzzer of layers, guided by which code they reach: mutated archives, compressed or not, are read and written as
// berth-unpack does it, under the sanitizers. Each must end in a layer or in a Failure, within bounds of time and memory.
//
//   unpack-fuzz CORPUS     BERTH_FUZZ_SECONDS (5), BERTH_FUZZ_SEED, BERTH_FUZZ_SAVE: a directory for inputs that reach new code
//
// Files of the corpus are tried first. An input that crashes, or that takes ten seconds, is left as CORPUS/crash-SEED-N.
// As root it also writes the layers, into a file system in memory that is its root; otherwise it only reads them.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "unpack/failure.h"
#include "unpack/fuzz.h"
#include "unpack/layer_stream.h"
#include "unpack/layer_writer.h"
#include "unpack/path.h"
#include "unpack/tar_reader.h"

extern "C" void __sanitizer_set_death_callback(void (*)());

namespace {

using berth::UniqueFd;
using namespace berth::unpack;

constexpr uint64_t kLimit = 4 << 20;
constexpr size_t kMapSize = 1 << 16;
constexpr unsigned kSecondsForOne = 10;

// which pairs of places followed upon each other, and how often
uint8_t reached[kMapSize];
uint8_t known[kMapSize];
uintptr_t previous;

UniqueFd findings;
std::string finding_name;
std::string current;

// Runs while everything else may be broken: system calls only.
void save_current() {
  const int fd = openat(findings.get(), finding_name.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, current.data(), current.size()) < 0) return;
  close(fd);
  dprintf(STDERR_FILENO, "the input is kept as %s\n", finding_name.c_str());
}

[[noreturn]] void stop(const char* why) {
  fprintf(stderr, "%s\n", why);
  save_current();
  _exit(1);
}

void check_path(const Entry& entry) {
  const std::string path = clean_path(entry.path);
  if (("/" + path + "/").find("/../") != std::string::npos || path.starts_with('/')) stop("a path leaves the root");
}

void read_data(const Entry& entry, TarReader& reader) {
  size_t count = 0;
  uint64_t bytes = 0;
  do {
    reader.take(count);
    bytes += count;
  } while (count > 0);
  if (bytes != entry.stored_bytes) stop("an entry has other bytes than it announced");
}

void unpack(bool writes) {
  const UniqueFd fd(memfd_create("layer", MFD_CLOEXEC));
  if (!fd || write(fd.get(), current.data(), current.size()) != static_cast<ssize_t>(current.size()) ||
      lseek(fd.get(), 0, SEEK_SET) != 0) {
    perror("memfd");
    exit(2);
  }
  try {
    LayerStream stream(fd.get(), kLimit);
    TarReader reader(stream);
    std::optional<LayerWriter> writer;
    if (writes) writer.emplace(false, true);
    while (const auto entry = reader.next()) {
      check_path(*entry);
      if (writer) writer->write(*entry, reader);
      else read_data(*entry, reader);
    }
    if (writer) writer->finish();
    stream.finish();
  } catch (const Failure&) {
  } catch (const std::bad_alloc&) {
    stop("a small layer takes too much memory");
  }
}

void empty_directory(int parent, const char* name) {
  const int inside = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (inside < 0) return;
  DIR* directory = fdopendir(inside);
  while (const dirent* item = readdir(directory)) {
    if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
    if (unlinkat(inside, item->d_name, 0) == 0) continue;
    empty_directory(inside, item->d_name);
    unlinkat(inside, item->d_name, AT_REMOVEDIR);
  }
  closedir(directory);
}

// True when the input reaches what none before has reached.
bool reaches_more() {
  bool more = false;
  for (size_t i = 0; i < kMapSize; i++) {
    if (reached[i] == 0) continue;
    // once, twice, up to 7, up to 31, more
    const uint8_t times = reached[i] == 1 ? 1 : reached[i] == 2 ? 2 : reached[i] < 8 ? 4 : reached[i] < 32 ? 8 : 16;
    if ((known[i] & times) == 0) more = true;
    known[i] |= times;
  }
  return more;
}

std::vector<std::string> read_corpus(const char* path) {
  std::vector<std::string> inputs;
  DIR* directory = opendir(path);
  if (directory == nullptr) {
    perror(path);
    exit(2);
  }
  while (const dirent* item = readdir(directory)) {
    const UniqueFd fd(openat(dirfd(directory), item->d_name, O_RDONLY | O_CLOEXEC));
    std::string bytes(1 << 20, '\0');
    const ssize_t count = read(fd.get(), bytes.data(), bytes.size());
    if (count < 0) continue;
    bytes.resize(static_cast<size_t>(count));
    inputs.push_back(bytes);
  }
  closedir(directory);
  return inputs;
}

// A file system in memory becomes the root. False without the right to do so.
bool enter_scratch() {
  if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0) return false;
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  if (mount("fuzz", "/tmp", "tmpfs", MS_NODEV | MS_NOEXEC | MS_NOSUID, "size=64m,mode=0755") != 0) return false;
  umask(0);
  return chroot("/tmp") == 0 && chdir("/") == 0;
}

long setting(const char* name, long otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : atol(text);
}

}  // namespace

extern "C" const char* __asan_default_options() {
  // what is confined has no /proc for the leak checker
  return "detect_leaks=0:max_allocation_size_mb=300:hard_rss_limit_mb=1200:allocator_may_return_null=0";
}

extern "C" void __sanitizer_cov_trace_pc() {
  const uintptr_t here = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  uint8_t& counter = reached[(here ^ previous) % kMapSize];
  if (counter < 255) counter++;
  previous = here >> 1;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "unpack-fuzz CORPUS\n");
    return 2;
  }
  const long seconds = setting("BERTH_FUZZ_SECONDS", 5);
  const long seed = setting("BERTH_FUZZ_SEED", 1);
  UniqueFd kept;
  if (const char* save = getenv("BERTH_FUZZ_SAVE")) kept.reset(open(save, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  findings.reset(open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::vector<std::string> tried = read_corpus(argv[1]);
  for (std::string& input : fuzz_seeds()) tried.push_back(std::move(input));
  std::vector<std::string> corpus;
  const bool writes = enter_scratch();
  const UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  __sanitizer_set_death_callback(save_current);
  signal(SIGALRM, [](int) { stop("an input takes too long"); });
  FuzzRandom random(static_cast<uint64_t>(seed) * 0x9e3779b97f4a7c15);

  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  uint64_t runs = 0;
  for (; runs < tried.size() || Clock::now() < end; runs++) {
    if (runs < tried.size()) current = tried[runs];
    else current = mutate(corpus[random.below(corpus.size())], corpus[random.below(corpus.size())], random);
    finding_name = "crash-" + std::to_string(seed) + "-" + std::to_string(runs);
    memset(reached, 0, sizeof reached);
    previous = 0;
    alarm(kSecondsForOne);
    unpack(writes);
    alarm(0);
    if (writes) empty_directory(root.get(), ".");
    if (!reaches_more() && runs >= tried.size()) continue;
    corpus.push_back(current);
    if (!kept || runs < tried.size()) continue;
    const std::string name = "found-" + std::to_string(seed) + "-" + std::to_string(runs);
    const UniqueFd fd(openat(kept.get(), name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    if (write(fd.get(), current.data(), current.size()) < 0) perror(name.c_str());
  }
  size_t places = 0;
  for (const uint8_t times : known) places += times != 0;
  printf("seed %ld: %lu layers %s, %zu of them reach something new; %zu steps of the program\n", seed,
         static_cast<unsigned long>(runs), writes ? "written" : "read", corpus.size(), places);
  return 0;
}
