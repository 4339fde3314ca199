// berth-archive: reads what others have made, for the import and export of images, with nothing else of the host in reach.
//
//   berth-archive decompress --directory DIR --limit-bytes N   standard input: gzip, zstd or neither; standard output: the same
//                                                              uncompressed
//   berth-archive digest --directory DIR --limit-bytes N       {"diffId":"sha256:..."} of standard input, uncompressed
//
//   berth-archive pack --directory DIR   {"diffId":"sha256:...","digest":"sha256:...","bytes":N}: the layer in DIR as a tar with
//                                        gzip goes to descriptor 3; N and digest are of what it wrote
//
// DIR becomes the process's root; for the first two it is empty. On failure: a line of JSON on standard error (unpack/report.h), exit code 1.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <string>
#include <string_view>

#include "archive/pack.h"
#include "archive/sink.h"
#include "archive/tar_writer.h"
#include "common/unique_fd.h"
#include "unpack/confine.h"
#include "unpack/failure.h"
#include "unpack/layer_stream.h"
#include "unpack/report.h"

namespace berth::archive {
namespace {

using unpack::fail;
using unpack::refuse;

// the C library's own: memory, abort
#define BERTH_LIBRARY_CALLS                                                                                           \
  SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_futex, SYS_getrandom, SYS_restart_syscall, \
      SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_exit, SYS_exit_group

constexpr int kStreamCalls[] = {SYS_read, SYS_write, BERTH_LIBRARY_CALLS};
constexpr unpack::Confinement kReadsStandardInput{{}, kStreamCalls};

constexpr int kTreeCalls[] = {
    SYS_read, SYS_write, SYS_newfstatat, SYS_openat, SYS_close, SYS_fchdir, SYS_llistxattr, SYS_lgetxattr, SYS_lseek,
    SYS_readlinkat, SYS_openat2, SYS_fstat, SYS_fgetxattr, SYS_getdents64, SYS_fcntl, BERTH_LIBRARY_CALLS,
};
// SYS_ADMIN is for reading trusted.overlay.opaque alone
constexpr int kTreeCapabilities[] = {CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN};
constexpr unpack::Confinement kReadsTree{kTreeCapabilities, kTreeCalls, true};

constexpr int kOutput = 3;

struct Options {
  std::string_view command;
  std::string directory;
  uint64_t limit_bytes = 0;
};

Options parse_options(int argc, char** argv) {
  Options options;
  if (argc > 1) options.command = argv[1];
  for (int i = 2; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 == argc) refuse("read the arguments", "", std::string(name) + " needs a value");
    if (name == "--directory") options.directory = argv[i + 1];
    else if (name == "--limit-bytes") options.limit_bytes = strtoull(argv[i + 1], nullptr, 10);
    else refuse("read the arguments", "", std::string(name) + " is not known");
  }
  if (options.directory.empty()) refuse("read the arguments", "", "--directory is missing");
  if (options.limit_bytes == 0 && options.command != "pack") refuse("read the arguments", "", "--limit-bytes is missing");
  return options;
}

void write_all(const uint8_t* bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t count = write(STDOUT_FILENO, bytes + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", "");
    done += static_cast<size_t>(count);
  }
}

void decompress(unpack::LayerStream& stream) {
  constexpr size_t kMost = 1 << 20;
  for (size_t count = 1; count > 0;) {
    const uint8_t* bytes = stream.take(kMost, count);
    write_all(bytes, count);
  }
}

std::string pack(const std::string& directory) {
  GzipSink sink(kOutput);
  unpack::confine(directory, {kOutput}, kReadsTree);
  const UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) fail("open", "/");
  TarWriter archive(sink);
  LayerPacker(root.get(), archive).pack();
  return "{\"diffId\":" + unpack::quoted(sink.diff_id()) + ",\"digest\":" + unpack::quoted(sink.digest()) +
         ",\"bytes\":" + std::to_string(sink.compressed_bytes()) + "}";
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  // the agent may be killed at any time: nobody would want the result
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl PR_SET_PDEATHSIG", "");
  if (options.command == "pack") {
    unpack::write_line(STDOUT_FILENO, pack(options.directory));
    return 0;
  }
  if (options.command != "decompress" && options.command != "digest") {
    refuse("read the arguments", "", "there is no such command");
  }
  unpack::LayerStream stream(STDIN_FILENO, options.limit_bytes);
  unpack::confine(options.directory, {}, kReadsStandardInput);
  if (options.command == "decompress") decompress(stream);
  else unpack::write_line(STDOUT_FILENO, "{\"diffId\":" + unpack::quoted(stream.finish()) + "}");
  return 0;
}

}  // namespace
}  // namespace berth::archive

#ifdef BERTH_SANITIZE
// the leak checker wants /proc, which the confined process does not have
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

int main(int argc, char** argv) {
  try {
    return berth::archive::run(argc, argv);
  } catch (const berth::unpack::Failure& failure) {
    berth::unpack::report(failure);
  } catch (const std::bad_alloc&) {
    berth::unpack::report({"allocate", "", ENOMEM, "reading the archive needs more memory than it may take"});
  }
  return 1;
}
