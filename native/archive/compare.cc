#include "archive/compare.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>

#include "unpack/failure.h"

namespace berth::archive {
namespace {

using unpack::Failure;
using unpack::fail;

bool has_vanished(const Failure& failure) {
  return failure.errno_value == ENOENT || failure.errno_value == ENOTDIR || failure.errno_value == ELOOP;
}

size_t read_fully(int fd, char* into, size_t size, const std::string& path) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = read(fd, into + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", path);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return done;
}

bool has_same_content(const Directory& one, const Directory& other, const std::string& name) {
  const UniqueFd first = one.open_file(name);
  const UniqueFd second = other.open_file(name);
  std::array<char, 65536> a;
  std::array<char, 65536> b;
  for (;;) {
    const size_t count = read_fully(first.get(), a.data(), a.size(), one.path_of(name));
    if (read_fully(second.get(), b.data(), b.size(), other.path_of(name)) != count) return false;
    if (memcmp(a.data(), b.data(), count) != 0) return false;
    if (count < a.size()) return true;
  }
}

// Made to be mounted on.
bool is_same_placeholder(const struct stat& now, const struct stat& before) {
  return (now.st_mode & S_IFMT) == (before.st_mode & S_IFMT) && (S_ISDIR(now.st_mode) || now.st_size == 0);
}

bool is_same_time(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

}  // namespace

Comparison::Comparison(int upper, std::vector<int> lower, ComparisonOptions options, Tell tell)
    : upper_(upper), lower_(std::move(lower)), options_(options), tell_(std::move(tell)) {}

void Comparison::run() {
  Layers all;
  for (size_t layer = 0; layer < lower_.size(); layer++) {
    all.push_back(layer);
    if (!options_.whole && Directory(lower_[layer], "").is_opaque()) break;
  }
  compare_directory("", all);
}

void Comparison::tell(Change change, const std::string& path) {
  for (const std::string& directory : untold_) tell_(Change::changed, directory);
  untold_.clear();
  tell_(change, path);
}

void Comparison::compare_directory(const std::string& path, const Layers& lower) {
  std::vector<Step> steps;
  try {
    steps = steps_of(Directory(upper_, path), lower);
  } catch (const Failure& failure) {
    if (options_.thorough || path.empty() || !has_vanished(failure)) throw;
    return;
  }
  for (const Step& step : steps) {
    const std::string inside = path.empty() ? step.name : path + "/" + step.name;
    if (step.is_told) tell(step.change, inside);
    if (!step.is_directory) continue;
    if (!step.is_told) untold_.push_back(inside);
    compare_directory(inside, step.lower);
    // nothing was told that is in it
    if (!untold_.empty() && untold_.back() == inside) untold_.pop_back();
  }
}

std::vector<Comparison::Step> Comparison::steps_of(const Directory& upper, const Layers& layers) {
  std::vector<std::pair<size_t, Directory>> lower;
  for (const size_t layer : layers) lower.emplace_back(layer, Directory(lower_[layer], upper.path()));
  const std::vector<Entry> entries = upper.entries();
  std::vector<Step> steps;
  for (const Entry& entry : entries) {
    Found found = find(lower, entry.name);
    Step step;
    step.name = entry.name;
    if (!options_.whole && is_whiteout(entry.status)) {
      step.is_told = found.exists;
      step.change = Change::deleted;
    } else {
      const auto holder = std::find_if(lower.begin(), lower.end(), [&](const auto& item) { return item.first == found.layer; });
      const bool is_besides = options_.whole && found.layer > 0;
      step.is_told = !found.exists || (is_besides ? !is_same_placeholder(entry.status, found.status)
                                                  : is_changed(upper, entry, holder->second, found.status));
      step.change = found.exists ? Change::changed : Change::added;
      step.is_directory = S_ISDIR(entry.status.st_mode);
      step.lower = std::move(found.directories);
    }
    steps.push_back(std::move(step));
  }
  if (options_.whole || upper.is_opaque()) add_deleted(lower, entries, steps);
  return steps;
}

// As overlayfs looks a name up.
Comparison::Found Comparison::find(const std::vector<std::pair<size_t, Directory>>& lower, const std::string& name) const {
  Found found;
  for (const auto& [layer, directory] : lower) {
    struct stat status {};
    if (fstatat(directory.fd(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) fail("stat", directory.path_of(name));
      continue;
    }
    if (!options_.whole && is_whiteout(status)) break;
    const bool is_directory = S_ISDIR(status.st_mode);
    if (found.exists && !is_directory) break;
    if (!found.exists) {
      found.exists = true;
      found.layer = layer;
      found.status = status;
    }
    if (!is_directory) break;
    found.directories.push_back(layer);
    if (!options_.whole && Directory(directory.fd(), name).is_opaque()) break;
  }
  return found;
}

void Comparison::add_deleted(const std::vector<std::pair<size_t, Directory>>& lower, const std::vector<Entry>& present,
                             std::vector<Step>& steps) const {
  std::set<std::string> known;
  for (const Entry& entry : present) known.insert(entry.name);
  for (const auto& [layer, directory] : lower) {
    if (options_.whole && layer > 0) break;
    for (const Entry& entry : directory.entries()) {
      if (!known.insert(entry.name).second) continue;
      if (!options_.whole && is_whiteout(entry.status)) continue;
      steps.push_back({entry.name, true, Change::deleted, false, {}});
    }
  }
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.name < b.name; });
}

bool Comparison::is_changed(const Directory& upper, const Entry& entry, const Directory& lower,
                            const struct stat& before) const {
  const struct stat& now = entry.status;
  const bool is_directory = S_ISDIR(now.st_mode);
  // overlayfs brings a file up when it is opened for writing
  if (!options_.whole && !is_directory) return true;
  if (now.st_mode != before.st_mode || !is_same_time(now.st_mtim, before.st_mtim)) return true;
  if (!is_directory && (now.st_size != before.st_size || now.st_rdev != before.st_rdev)) return true;
  if (!options_.thorough) return false;
  if (now.st_uid != before.st_uid || now.st_gid != before.st_gid) return true;
  if (upper.attributes(entry.name) != lower.attributes(entry.name)) return true;
  if (S_ISLNK(now.st_mode)) return upper.read_link(entry.name) != lower.read_link(entry.name);
  return S_ISREG(now.st_mode) && !has_same_content(upper, lower, entry.name);
}

}  // namespace berth::archive
