// Statistics of cgroups: one pass over the files of many, on a thread of its own, that answers nothing but numbers.
// Descriptors stay open from pass to pass; a file's path is walked again only when its cgroup was made anew.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/cgroup_file.h"
#include "addon/cgroup_tree.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than the kubelet and Prometheus wait from pass to pass. Who has not asked for a cgroup meanwhile may have removed
// it without telling.
constexpr auto keep_open = std::chrono::seconds(40);
// Of the descriptors that are for everything else that the agent does: a half, or so many, but never less than an eighth.
constexpr rlim_t enough_for_others = 4096;
constexpr size_t buffer_size = 64 << 10;

class Sampler {
 public:
  explicit Sampler(std::vector<CgroupFile> files) : files_(std::move(files)) {
    for (const CgroupFile& file : files_) columns_ += file.values();
    rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    rlim_t most = limit.rlim_cur;
    most_open_ = most - std::max(most / 8, std::min(most / 2, enough_for_others));
  }

  // For each path the time of its reading, and then the columns in the order of the files' keys. Passes over different
  // paths go on side by side.
  std::vector<double> sample(const std::vector<std::string>& paths, bool details) {
    std::vector<double> values(paths.size() * (columns_ + 1), unknown);
    std::vector<char> buffer(buffer_size);
    Taken taken(this, paths);
    double* row = values.data();
    for (size_t i = 0; i < paths.size(); i++) {
      sample_one(paths[i], details, taken.entries[i], &buffer, row);
      row += columns_ + 1;
    }
    return values;
  }

  // Done by the next pass, or at the end of one that is under way: nobody waits here for the closing of files.
  void forget(std::string path) {
    std::lock_guard lock(mutex_);
    forgotten_.push_back(std::move(path));
  }

 private:
  struct Entry {
    std::vector<UniqueFd> descriptors;
    // Of files that are counted.
    std::map<const CgroupFile*, CgroupTree> trees;
    // What the last pass with details has read.
    std::vector<double> last;
    // It found no pulse: what it read was read when all that the last run had set going had ended, too.
    bool was_quiet = false;
    Clock::time_point used;
    bool taken = false;

    bool any() const {
      return !trees.empty() || std::any_of(descriptors.begin(), descriptors.end(),
                                           [](const UniqueFd& fd) { return static_cast<bool>(fd); });
    }
  };

  // What a pass reads is its own until it ends.
  struct Taken {
    Taken(Sampler* owner, const std::vector<std::string>& paths) : entries(owner->take(paths)), sampler(owner) {}
    ~Taken() { sampler->put_back(entries); }
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;

    std::vector<Entry*> entries;  // in the map, whose elements stay where they are
    Sampler* sampler;
  };

  std::vector<Entry*> take(const std::vector<std::string>& paths) {
    std::unique_lock lock(mutex_);
    // Who wants the same ones waits: it would open all their files a second time.
    some_put_back_.wait(lock, [&] {
      return std::none_of(paths.begin(), paths.end(), [&](const std::string& path) {
        auto entry = open_.find(path);
        return entry != open_.end() && entry->second.taken;
      });
    });
    close_forgotten();
    std::vector<Entry*> entries;
    entries.reserve(paths.size());
    for (const std::string& path : paths) {
      Entry& entry = open_[path];
      entry.descriptors.resize(files_.size());
      entry.taken = true;
      entries.push_back(&entry);
    }
    return entries;
  }

  void put_back(const std::vector<Entry*>& entries) {
    std::lock_guard lock(mutex_);
    Clock::time_point now = Clock::now();
    for (Entry* entry : entries) {
      entry->taken = false;
      entry->used = now;
    }
    close_forgotten();
    for (auto at = open_.begin(); at != open_.end();) {
      Entry& entry = at->second;
      bool needed = entry.taken || (entry.any() && now - entry.used <= keep_open);
      if (!needed) close(&entry);
      at = needed ? std::next(at) : open_.erase(at);
    }
    some_put_back_.notify_all();
  }

  // Those that a pass has taken stay in the list until it ends.
  void close_forgotten() {
    std::erase_if(forgotten_, [this](const std::string& path) {
      auto entry = open_.find(path);
      if (entry == open_.end()) return true;
      if (entry->second.taken) return false;
      close(&entry->second);
      open_.erase(entry);
      return true;
    });
  }

  void close(Entry* entry) {
    for (UniqueFd& fd : entry->descriptors) {
      if (fd) open_count_--;
      fd.reset();
    }
    open_count_ -= entry->trees.size();
    entry->trees.clear();
    entry->last.clear();
  }

  void sample_one(const std::string& path, bool details, Entry* entry, std::vector<char>* buffer, double* row) {
    timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    row[0] = static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
    // A descriptor of a cgroup that was removed: perhaps another has been made in its place.
    if (!read_all(path, details, entry, buffer, row + 1)) {
      close(entry);
      std::fill(row + 1, row + 1 + columns_, unknown);
      read_all(path, details, entry, buffer, row + 1);
    }
  }

  // False: a descriptor was stale.
  bool read_all(const std::string& path, bool details, Entry* entry, std::vector<char>* buffer, double* values) {
    bool quiet = details && !entry->last.empty();
    bool settled = quiet && entry->was_quiet;
    size_t at = 0;
    for (size_t i = 0; i < files_.size(); i++) {
      const CgroupFile& file = files_[i];
      const double* last = quiet ? entry->last.data() + at : nullptr;
      double* now = values + at;
      at += file.values();
      if (file.detail && !details) continue;
      if (file.steady && quiet && settled && std::none_of(last, last + file.values(), is_unknown)) {
        std::copy(last, last + file.values(), now);
        continue;
      }
      if (file.counted) {
        *now = count(file.root + path, file, entry, buffer);
      } else if (!read_one(path, i, entry, buffer, now)) {
        return false;
      }
      if (file.pulse && quiet) quiet = same_pulse(now, last, file.values());
    }
    if (details) {
      entry->last.assign(values, values + columns_);
      entry->was_quiet = quiet;
    }
    return true;
  }

  // Not one that is not known at all: the cgroup may have gone, and another come.
  static bool same_pulse(const double* now, const double* last, size_t values) {
    auto same = [](double one, double other) { return one == other || (is_unknown(one) && is_unknown(other)); };
    return std::equal(now, now + values, last, same) && !std::all_of(now, now + values, is_unknown);
  }

  // False: the descriptor was stale.
  bool read_one(const std::string& path, size_t index, Entry* entry, std::vector<char>* buffer, double* values) {
    const CgroupFile& file = files_[index];
    UniqueFd& kept = entry->descriptors[index];
    bool was_open = static_cast<bool>(kept);
    UniqueFd opened;
    if (!was_open) opened.reset(::open((file.root + path + "/" + file.name).c_str(), O_RDONLY | O_CLOEXEC));
    int fd = was_open ? kept.get() : opened.get();
    ssize_t size = fd < 0 ? -1 : pread(fd, buffer->data(), buffer->size(), 0);
    if (size < 0 && was_open && errno == ENODEV) return false;
    if (size >= 0) file.parse(std::string_view(buffer->data(), static_cast<size_t>(size)), values);
    if (opened && size >= 0 && open_count_ < most_open_) {
      kept = std::move(opened);
      open_count_++;
    }
    return true;
  }

  double count(const std::string& path, const CgroupFile& file, Entry* entry, std::vector<char>* buffer) {
    auto kept = entry->trees.find(&file);
    if (kept != entry->trees.end()) {
      double count = kept->second.count(file.name, buffer);
      if (!is_unknown(count)) return count;
      entry->trees.erase(kept);
      open_count_--;
    }
    // Where one was, perhaps another has been made.
    CgroupTree tree(path);
    double count = tree.count(file.name, buffer);
    if (!is_unknown(count) && open_count_ < most_open_) {
      entry->trees.emplace(&file, std::move(tree));
      open_count_++;
    }
    return count;
  }

  const std::vector<CgroupFile> files_;
  size_t columns_ = 0;
  rlim_t most_open_ = 0;
  std::atomic<rlim_t> open_count_ = 0;
  std::mutex mutex_;
  std::condition_variable some_put_back_;
  std::unordered_map<std::string, Entry> open_;
  std::vector<std::string> forgotten_;
};

CgroupKey to_key(const Napi::Object& value) {
  std::string name = text_field(value, "key");
  double factor = value.Has("factor") ? value.Get("factor").ToNumber().DoubleValue() : 1;
  size_t space = name.find(' ');
  if (space == std::string::npos) return {name, "", factor};
  return {name.substr(0, space), name.substr(space + 1), factor};
}

CgroupFile to_file(const Napi::Object& value) {
  CgroupFile file;
  file.root = text_field(value, "root");
  file.name = text_field(value, "file");
  file.counted = bool_field(value, "counted");
  file.detail = bool_field(value, "detail");
  file.pulse = bool_field(value, "pulse");
  file.steady = bool_field(value, "steady");
  file.fingerprint = bool_field(value, "fingerprint");
  if (file.counted || file.fingerprint) return file;
  Napi::Array keys = object_field(value, "keys").As<Napi::Array>();
  for (uint32_t i = 0; i < keys.Length(); i++) file.keys.push_back(to_key(keys.Get(i).As<Napi::Object>()));
  return file;
}

Napi::Value open_sampler(const Napi::CallbackInfo& info) {
  Napi::Array given = object_argument(info, 0, "files").As<Napi::Array>();
  std::vector<CgroupFile> files;
  for (uint32_t i = 0; i < given.Length(); i++) files.push_back(to_file(given.Get(i).As<Napi::Object>()));
  auto sampler = std::make_shared<Sampler>(std::move(files));
  Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  result.Set("sample", Napi::Function::New(env, [sampler](const Napi::CallbackInfo& call) -> Napi::Value {
               std::vector<std::string> paths = to_texts(call[0], "paths");
               bool details = call[1].ToBoolean();
               return on_yielding_thread(call.Env(), [sampler, paths = std::move(paths), details]() -> Settle {
                 auto values = std::make_shared<std::vector<double>>(sampler->sample(paths, details));
                 return [values](Napi::Env in) {
                   Napi::Float64Array array = Napi::Float64Array::New(in, values->size());
                   std::copy(values->begin(), values->end(), array.Data());
                   return array;
                 };
               });
             }));
  result.Set("forget", Napi::Function::New(env, [sampler](const Napi::CallbackInfo& call) -> Napi::Value {
               sampler->forget(string_argument(call, 0, "path"));
               return call.Env().Undefined();
             }));
  return result;
}

}  // namespace

void register_sampler(Napi::Object exports) { export_function<open_sampler>(exports, "openSampler"); }

}  // namespace berth
