// Statistics of cgroups: one pass over the files of many, on a thread of its own, that answers nothing but numbers.
// Descriptors stay open from pass to pass; a file's path is walked again only when its cgroup was made anew.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
constexpr double no_limit = std::numeric_limits<double>::infinity();

// Longer than the kubelet and Prometheus wait from pass to pass. Who has not asked for a cgroup meanwhile may have removed
// it without telling.
constexpr auto keep_open = std::chrono::seconds(40);
// Of the descriptors that are for everything else that the agent does: a half, or so many, but never less than an eighth.
constexpr rlim_t enough_for_others = 4096;
constexpr size_t deepest = 32;
constexpr size_t buffer_size = 64 << 10;

// One value of a file: "" is the whole file, "name" a line's second word, "word name" what follows "name=" in the line
// that begins with the word.
struct Key {
  std::string line;
  std::string item;
  double factor = 1;
};

struct File {
  std::string root;
  std::string name;
  // Counted lines of the file in the cgroup and all below it, instead of keys.
  bool counted = false;
  // Not read in a pass without details.
  bool detail = false;
  // Its values change whenever the cgroup's processes run, come or go.
  bool pulse = false;
  // Its values change with a pulse, and for some time after it (a quota's period ends when nobody runs any more): where the
  // last pass found none and there is none since, they are what they were.
  bool steady = false;
  // Its one value stands for the whole text.
  bool fingerprint = false;
  std::vector<Key> keys;

  size_t values() const { return counted || fingerprint ? 1 : keys.size(); }
};

bool is_unknown(double value) { return std::isnan(value); }

double to_number(std::string_view text) {
  if (text.starts_with("max")) return no_limit;
  double value = unknown;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? value : unknown;
}

// FNV-1a, as far as a double holds whole numbers.
double fingerprint_of(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211u;
  return static_cast<double>(hash >> 11);
}

// Lines of a file whose keys are asked for in the order in which they most often stand: each search goes on where the
// last one ended.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {}

  // What follows `word` and a space; empty when no line begins so.
  std::string_view after(std::string_view word) {
    size_t begun = at_;
    for (bool wrapped = false;;) {
      if (at_ >= text_.size()) {
        if (wrapped) return {};
        wrapped = true;
        at_ = 0;
        if (begun == 0) return {};
      }
      size_t end = std::min(text_.find('\n', at_), text_.size());
      std::string_view line = text_.substr(at_, end - at_);
      if (line.size() > word.size() && line.starts_with(word) && line[word.size()] == ' ') {
        return line.substr(word.size() + 1);
      }
      at_ = end + 1;
      if (wrapped && at_ >= begun) return {};
    }
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

double item_of(std::string_view line, const std::string& item) {
  for (size_t at = line.find(item); at != std::string_view::npos; at = line.find(item, at + 1)) {
    bool whole = at == 0 || line[at - 1] == ' ';
    if (whole && line.substr(at + item.size()).starts_with('=')) return to_number(line.substr(at + item.size() + 1));
  }
  return unknown;
}

uint64_t count_lines(int fd, std::vector<char>* buffer) {
  uint64_t lines = 0;
  while (true) {
    ssize_t got = read(fd, buffer->data(), buffer->size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return lines;
    lines += static_cast<uint64_t>(std::count(buffer->data(), buffer->data() + got, '\n'));
  }
}

// A cgroup that has its lines counted, with those below it.
struct Group {
  // From the tree's directory, with a slash at its end; empty: that directory itself.
  std::string path;
  // The directory's links when those below were looked for: the kernel keeps one for each of them, beside two.
  nlink_t links = 2;
  std::vector<Group> below;
};

// A list of processes is made when it is opened, so that it is opened for each count: from the directory, which is much
// less than to walk the whole path.
struct Tree {
  UniqueFd directory;
  Group all;
};

std::vector<Group> groups_in(int directory, const std::string& path) {
  std::vector<Group> groups;
  UniqueFd fd(openat(directory, path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> entries(fd ? fdopendir(fd.get()) : nullptr, closedir);
  if (entries == nullptr) return groups;
  fd.release();
  while (dirent* entry = readdir(entries.get())) {
    std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") groups.push_back({path + entry->d_name + "/", 2, {}});
  }
  return groups;
}

class Sampler {
 public:
  explicit Sampler(std::vector<File> files) : files_(std::move(files)) {
    for (const File& file : files_) columns_ += file.values();
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
    std::map<const File*, Tree> trees;
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
      const File& file = files_[i];
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
    const File& file = files_[index];
    UniqueFd& kept = entry->descriptors[index];
    bool was_open = static_cast<bool>(kept);
    UniqueFd opened;
    if (!was_open) opened.reset(::open((file.root + path + "/" + file.name).c_str(), O_RDONLY | O_CLOEXEC));
    int fd = was_open ? kept.get() : opened.get();
    ssize_t size = fd < 0 ? -1 : pread(fd, buffer->data(), buffer->size(), 0);
    if (size < 0 && was_open && errno == ENODEV) return false;
    if (size >= 0) take(file, std::string_view(buffer->data(), static_cast<size_t>(size)), values);
    if (opened && size >= 0 && open_count_ < most_open_) {
      kept = std::move(opened);
      open_count_++;
    }
    return true;
  }

  static void take(const File& file, std::string_view text, double* values) {
    if (file.fingerprint) {
      *values = fingerprint_of(text);
      return;
    }
    Lines lines(text);
    for (const Key& key : file.keys) {
      double value = unknown;
      if (key.line.empty()) {
        value = to_number(text);
      } else {
        std::string_view rest = lines.after(key.line);
        if (!rest.empty()) value = key.item.empty() ? to_number(rest) : item_of(rest, key.item);
      }
      *values++ = value * key.factor;
    }
  }

  double count(const std::string& path, const File& file, Entry* entry, std::vector<char>* buffer) {
    Tree tree;
    if (auto kept = entry->trees.find(&file); kept != entry->trees.end()) {
      tree = std::move(kept->second);
      entry->trees.erase(kept);
      open_count_--;
    }
    double count = tree.directory ? count_in(tree.directory.get(), file.name, &tree.all, 0, buffer) : unknown;
    // Perhaps another has been made in its place.
    if (std::isnan(count)) {
      tree = Tree{UniqueFd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), {}};
      if (tree.directory) count = count_in(tree.directory.get(), file.name, &tree.all, 0, buffer);
    }
    if (!std::isnan(count) && open_count_ < most_open_) {
      entry->trees.emplace(&file, std::move(tree));
      open_count_++;
    }
    return count;
  }

  // Unknown: it is gone.
  double count_in(int directory, const std::string& file, Group* group, size_t depth, std::vector<char>* buffer) {
    UniqueFd list(openat(directory, (group->path + file).c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status;
    if (!list || fstatat(directory, group->path.c_str(), &status, AT_EMPTY_PATH) < 0) return unknown;
    double count = static_cast<double>(count_lines(list.get(), buffer));
    list.reset();
    if (depth >= deepest) return count;
    bool gone = false;
    bool same = status.st_nlink == group->links;
    double below = same ? count_below(directory, file, group, depth, buffer, &gone) : 0;
    if (!same || gone) {
      group->links = status.st_nlink;
      group->below = status.st_nlink <= 2 ? std::vector<Group>() : groups_in(directory, group->path);
      below = count_below(directory, file, group, depth, buffer, &gone);
    }
    return count + below;
  }

  double count_below(int directory, const std::string& file, Group* group, size_t depth, std::vector<char>* buffer,
                     bool* gone) {
    double sum = 0;
    for (Group& each : group->below) {
      double count = count_in(directory, file, &each, depth + 1, buffer);
      if (std::isnan(count)) {
        *gone = true;
      } else {
        sum += count;
      }
    }
    return sum;
  }

  const std::vector<File> files_;
  size_t columns_ = 0;
  rlim_t most_open_ = 0;
  std::atomic<rlim_t> open_count_ = 0;
  std::mutex mutex_;
  std::condition_variable some_put_back_;
  std::unordered_map<std::string, Entry> open_;
  std::vector<std::string> forgotten_;
};

Key to_key(const Napi::Object& value) {
  std::string name = text_field(value, "key");
  double factor = value.Has("factor") ? value.Get("factor").ToNumber().DoubleValue() : 1;
  size_t space = name.find(' ');
  if (space == std::string::npos) return {name, "", factor};
  return {name.substr(0, space), name.substr(space + 1), factor};
}

File to_file(const Napi::Object& value) {
  File file;
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
  std::vector<File> files;
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
