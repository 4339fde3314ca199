// berth-archive: reads what others have made, for the import and export of images, with nothing else of the host in reach.
//
//   berth-archive decompress --directory DIR --limit-bytes N   standard input: gzip, zstd or neither; standard output: the same
//                                                              uncompressed
//   berth-archive digest --directory DIR --limit-bytes N       {"diffId":"sha256:..."} of standard input, uncompressed
//
//   berth-archive pack --directory DIR [--lower DIR]
//                                        {"diffId":"sha256:...","digest":"sha256:...","bytes":N}: the layer in DIR as a tar with
//                                        gzip goes to descriptor 3; N and digest are of what it wrote. With --lower both are
//                                        whole trees, and the layer is what the first has that the other has not
//   berth-archive changes --directory DIR --lower DIR... [--whole]
//                                        what the first has that the others (the topmost first) have not: "A path", "C path"
//                                        or "D path", each with a NUL at its end (see compare.h)
//
//   berth-archive copy --directory DIR --from DIR [--share-below DIR]
//                                        {"bytes":N,"inodes":N}: the second's tree is made again in the first, which is empty.
//                                        With --share-below both are below that directory, and files are not copied, but get
//                                        further names (see copy.h)
//
// DIR becomes the process's root (or --share-below does); for the first two it is empty. On failure: a line of JSON on standard error (unpack/report.h), exit code 1.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "archive/compare.h"
#include "archive/copy.h"
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

constexpr int kCopyCalls[] = {
    SYS_read, SYS_write, SYS_newfstatat, SYS_openat, SYS_close, SYS_ioctl, SYS_fchown, SYS_fchmod, SYS_utimensat,
    SYS_fstat, SYS_fchdir, SYS_llistxattr, SYS_lgetxattr, SYS_fsetxattr, SYS_lsetxattr, SYS_lseek, SYS_ftruncate,
    SYS_linkat, SYS_mkdirat, SYS_mknodat, SYS_symlinkat, SYS_fchownat, SYS_fchmodat, SYS_readlinkat, SYS_openat2,
    SYS_getdents64, SYS_fcntl, BERTH_LIBRARY_CALLS,
};
constexpr int kCopyCapabilities[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP};
constexpr unpack::Confinement kCopiesTrees{kCopyCapabilities, kCopyCalls};

constexpr int kOutput = 3;

struct Options {
  std::string_view command;
  std::string directory;
  uint64_t limit_bytes = 0;
  std::vector<std::string> lower;
  bool whole = false;
  std::string from;
  std::string share_below;
};

Options parse_options(int argc, char** argv) {
  Options options;
  if (argc > 1) options.command = argv[1];
  for (int i = 2; i < argc; i++) {
    const std::string_view name = argv[i];
    if (name == "--whole") {
      options.whole = true;
      continue;
    }
    if (i + 1 == argc) refuse("read the arguments", "", std::string(name) + " needs a value");
    const char* value = argv[++i];
    if (name == "--directory") options.directory = value;
    else if (name == "--lower") options.lower.emplace_back(value);
    else if (name == "--from") options.from = value;
    else if (name == "--share-below") options.share_below = value;
    else if (name == "--limit-bytes") options.limit_bytes = strtoull(value, nullptr, 10);
    else refuse("read the arguments", "", std::string(name) + " is not known");
  }
  if (options.directory.empty()) refuse("read the arguments", "", "--directory is missing");
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

// A mount of its own, which nothing can be written to: the confined process has it as a descriptor.
int open_read_only(const std::string& path) {
  const int tree = static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path.c_str(),
                                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (tree < 0) fail("open_tree", path);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    fail("mount_setattr", path);
  }
  return tree;
}

UniqueFd open_root() {
  UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) fail("open", "/");
  return root;
}

std::string pack(const Options& options) {
  if (options.lower.size() > 1) refuse("read the arguments", "", "a whole tree is compared with one other");
  GzipSink sink(kOutput);
  std::vector<int> keep{kOutput};
  for (const std::string& path : options.lower) keep.push_back(open_read_only(path));
  unpack::confine(options.directory, keep, kReadsTree);
  const UniqueFd root = open_root();
  TarWriter archive(sink);
  LayerPacker packer(root.get(), archive);
  if (options.lower.empty()) packer.pack();
  else packer.pack_difference(keep.back());
  return "{\"diffId\":" + unpack::quoted(sink.diff_id()) + ",\"digest\":" + unpack::quoted(sink.digest()) +
         ",\"bytes\":" + std::to_string(sink.compressed_bytes()) + "}";
}

void tell_changes(const Options& options) {
  std::vector<int> lower;
  for (const std::string& path : options.lower) lower.push_back(open_read_only(path));
  unpack::confine(options.directory, lower, kReadsTree);
  const UniqueFd root = open_root();
  constexpr size_t kBufferBytes = 65536;
  std::string told;
  const auto flush = [&told]() {
    write_all(reinterpret_cast<const uint8_t*>(told.data()), told.size());
    told.clear();
  };
  Comparison comparison(root.get(), lower, {.whole = options.whole}, [&](Change change, const std::string& path) {
    told += static_cast<char>(change);
    told += ' ';
    told += path;
    told += '\0';
    if (told.size() >= kBufferBytes) flush();
  });
  comparison.run();
  flush();
}

std::string copied(TreeCopy&& copy) {
  copy.run();
  return "{\"bytes\":" + std::to_string(copy.bytes()) + ",\"inodes\":" + std::to_string(copy.inodes()) + "}";
}

std::string copy(const Options& options) {
  if (options.from.empty()) refuse("read the arguments", "", "--from is missing");
  if (options.share_below.empty()) {
    const int from = open_read_only(options.from);
    unpack::confine(options.directory, {from}, kCopiesTrees);
    return copied(TreeCopy(from, open_root().get(), false));
  }
  // a file gets a further name within one mount only
  const std::string prefix = options.share_below + "/";
  if (!options.from.starts_with(prefix) || !options.directory.starts_with(prefix)) {
    refuse("read the arguments", "", "--share-below does not contain both directories");
  }
  unpack::confine(options.share_below, {}, kCopiesTrees);
  const UniqueFd root = open_root();
  const Directory from(root.get(), options.from.substr(prefix.size()));
  const Directory to(root.get(), options.directory.substr(prefix.size()));
  return copied(TreeCopy(from.fd(), to.fd(), true));
}

void read_standard_input(const Options& options) {
  if (options.limit_bytes == 0) refuse("read the arguments", "", "--limit-bytes is missing");
  unpack::LayerStream stream(STDIN_FILENO, options.limit_bytes);
  unpack::confine(options.directory, {}, kReadsStandardInput);
  if (options.command == "decompress") decompress(stream);
  else unpack::write_line(STDOUT_FILENO, "{\"diffId\":" + unpack::quoted(stream.finish()) + "}");
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  // the agent may be killed at any time: nobody would want the result
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl PR_SET_PDEATHSIG", "");
  if (options.command == "pack") unpack::write_line(STDOUT_FILENO, pack(options));
  else if (options.command == "changes") tell_changes(options);
  else if (options.command == "copy") unpack::write_line(STDOUT_FILENO, copy(options));
  else if (options.command == "decompress" || options.command == "digest") read_standard_input(options);
  else refuse("read the arguments", "", "there is no such command");
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
