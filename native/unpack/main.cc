// berth-unpack: one layer, from standard input into one directory, with nothing else of the host in reach.
//
//   berth-unpack --directory DIR --limit-bytes N [--apply | --below] [--request-id ID]
//                                       standard input: the layer, compressed or not; --apply: DIR is the tree of the layers
//                                       below (see layer_writer.h); --below: there are layers below, which are not here;
//                                       ID: of the CRI call that it is for
//
// Standard output: {"diffId":"sha256:...","bytes":N,"inodes":N,"rootIsImplicit":B,"rootIsOpaque":B}, a newline, and the
// paths of the directories that no entry describes, each with a NUL at its end; those that hold nothing but whiteouts begin with a slash.
// Then those that have whiteouts in them, with two slashes before. With three: files that are to be copies of what the layers
// below have; with four: what that is, also of files that a later entry has replaced.
// On failure: {"step":"...","path":"...","errno":N,"message":"...","request":"ID"} on standard error, and exit code 1.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>

#include "unpack/confine.h"
#include "unpack/failure.h"
#include "unpack/layer_stream.h"
#include "unpack/layer_writer.h"
#include "unpack/report.h"
#include "unpack/tar_reader.h"

namespace berth::unpack {
namespace {

constexpr size_t kMaxToldBytes = 32 << 20;

struct Options {
  std::string directory;
  uint64_t limit_bytes = 0;
  bool apply = false;
  bool below = false;
};

std::string_view request_id;  // of main's arguments

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    const std::string_view name = argv[i];
    if (name == "--apply") {
      options.apply = true;
      continue;
    }
    if (name == "--below") {
      options.below = true;
      continue;
    }
    if (i + 1 >= argc) refuse("read the arguments", "", std::string(name) + " needs a value");
    const char* value = argv[++i];
    if (name == "--directory") options.directory = value;
    else if (name == "--request-id") request_id = value;
    else if (name == "--limit-bytes") options.limit_bytes = strtoull(value, nullptr, 10);
    else refuse("read the arguments", "", std::string(name) + " is not known");
  }
  if (options.directory.empty()) refuse("read the arguments", "", "--directory is missing");
  if (options.limit_bytes == 0) refuse("read the arguments", "", "--limit-bytes is missing");
  return options;
}

std::string unpack_layer(LayerStream& stream, const Options& options) {
  TarReader reader(stream);
  LayerWriter writer(options.apply, options.below);
  while (const std::optional<Entry> entry = reader.next()) writer.write(*entry, reader);
  writer.finish();
  std::string told = "{\"diffId\":" + quoted(stream.finish()) + ",\"bytes\":" + std::to_string(writer.bytes()) +
                     ",\"inodes\":" + std::to_string(writer.inodes()) +
                     ",\"rootIsImplicit\":" + (writer.root_is_implicit() ? "true" : "false") +
                     ",\"rootIsOpaque\":" + (writer.root_is_opaque() ? "true" : "false") + "}\n";
  const auto tell = [&told](std::string_view mark, const std::string& path) {
    told += mark;
    told += path;
    told += '\0';
    if (told.size() > kMaxToldBytes) {
      refuse("make", path,
             "too many directories that no entry describes or that have whiteouts, or hard links to files of the layers below");
    }
  };
  for (const auto& [path, directory] : writer.implicit_directories()) {
    if (directory.only_hides) tell("/", path);
    else if (!directory.is_alone) tell("", path);
  }
  for (const std::string& path : writer.directories_of_whiteouts()) tell("//", path);
  for (const auto& [target, link] : writer.first_links_below()) tell("////", target);
  for (const std::string& path : writer.links_below()) tell("///", path);
  return told;
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  // the agent may be killed at any time: nobody would want the result
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl PR_SET_PDEATHSIG", "");
  LayerStream stream(STDIN_FILENO, options.limit_bytes);
  confine(options.directory, {}, kWritesLayers);
  write_all(STDOUT_FILENO, unpack_layer(stream, options));
  return 0;
}

}  // namespace
}  // namespace berth::unpack

#ifdef BERTH_SANITIZE
// the leak checker wants /proc, which the confined process does not have
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

int main(int argc, char** argv) {
  try {
    return berth::unpack::run(argc, argv);
  } catch (const berth::unpack::Failure& failure) {
    berth::unpack::report(failure, berth::unpack::request_id);
  } catch (const std::bad_alloc&) {
    berth::unpack::report({"allocate", "", ENOMEM, "the layer needs more memory than an unpacker may take"},
                          berth::unpack::request_id);
  }
  return 1;
}
