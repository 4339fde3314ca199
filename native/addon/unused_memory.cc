// Gives back to the kernel what the process has but does not use.
#include <malloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdio>
#include <memory>
#include <vector>

#include "addon/functions.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

struct Mapping {
  void* start = nullptr;
  size_t size = 0;
  bool own_pages = false;  // relocated ones, for example: they stand in no file
};

// Where Node's own executable is mapped and cannot be written: for the whole life of the process. Other files' mappings may
// go, and something else come to their place, while this is being read (/proc/self/smaps, proc_pid_smaps(5)).
std::vector<Mapping> program_mappings() {
  std::unique_ptr<FILE, int (*)(FILE*)> list(fopen("/proc/self/smaps", "re"), fclose);
  if (list == nullptr) throw_errno("open", "/proc/self/smaps");
  struct stat program;
  if (stat("/proc/self/exe", &program) < 0) throw_errno("stat", "/proc/self/exe");
  std::vector<Mapping> mappings;
  bool ours = false;
  char line[4096];
  while (fgets(line, sizeof line, list.get()) != nullptr) {
    unsigned long start, end, inode, kilobytes;
    char permissions[5];
    if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, permissions, &inode) == 4) {
      ours = inode == program.st_ino && permissions[1] != 'w';
      if (ours) mappings.push_back({reinterpret_cast<void*>(start), end - start, false});
    } else if (ours && sscanf(line, "Anonymous: %lu kB", &kilobytes) == 1) {
      mappings.back().own_pages = kilobytes > 0;
    }
  }
  return mappings;
}

// Of the executable only what runs stays mapped: most of what Node maps to start with is never needed again. The page cache
// still has the pages, and a touch maps them anew. Without huge pages, or each touch would map 2 MiB around it.
void forget_program() {
  for (const Mapping& mapping : program_mappings()) {
    if (mapping.own_pages) continue;
    // a kernel without huge pages says EINVAL
    (void)madvise(mapping.start, mapping.size, MADV_NOHUGEPAGE);
    if (madvise(mapping.start, mapping.size, MADV_DONTNEED) < 0) throw_errno("madvise", "/proc/self/exe");
  }
}

// malloc gives back by itself only what is free at the very end of its heap, and the buffers of a pull lie before that.
Napi::Value release_unused_memory(const Napi::CallbackInfo& info) {
  return on_own_thread(info.Env(), []() -> Settle {
    malloc_trim(0);
    forget_program();
    return settle_nothing();
  });
}

}  // namespace

void register_unused_memory(Napi::Object exports) {
  export_function<release_unused_memory>(exports, "releaseUnusedMemory");
}

}  // namespace berth
