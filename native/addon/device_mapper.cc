// Devices of the kernel's device mapper (Documentation/admin-guide/device-mapper), each of one target.
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

constexpr const char* control_path = "/dev/mapper/control";
constexpr size_t answer_bytes = 64 * 1024;

// One ioctl: a head, and behind it what the command wants or answers.
class Request {
 public:
  explicit Request(const std::string& name, unsigned flags = 0) : buffer_(answer_bytes) {
    dm_ioctl* head = this->head();
    // the oldest that has all that is asked for here: deferred removal
    head->version[0] = 4;
    head->version[1] = 27;
    head->data_size = static_cast<uint32_t>(buffer_.size());
    head->data_start = sizeof(dm_ioctl);
    head->flags = flags;
    if (name.size() >= sizeof head->name) throw SystemError(ENAMETOOLONG, "name of a device", name);
    memcpy(head->name, name.c_str(), name.size() + 1);
  }

  dm_ioctl* head() { return reinterpret_cast<dm_ioctl*>(buffer_.data()); }
  char* data() { return buffer_.data() + head()->data_start; }
  size_t room() { return buffer_.size() - head()->data_start; }

  // 0 or an errno.
  int run(int control, unsigned long command) { return ioctl(control, command, buffer_.data()) < 0 ? errno : 0; }

 private:
  std::vector<char> buffer_;
};

UniqueFd open_control() { return open_file(control_path, O_RDWR); }

void run(Request& request, int control, unsigned long command, const char* call, const std::string& name) {
  if (int value = request.run(control, command); value != 0) throw SystemError(value, call, name);
}

void remove_device(int control, const std::string& name, bool deferred) {
  Request request(name, deferred ? DM_DEFERRED_REMOVE : 0);
  run(request, control, DM_DEV_REMOVE, "DM_DEV_REMOVE", name);
}

std::string path_of(uint64_t device) { return "/dev/dm-" + std::to_string(minor(static_cast<dev_t>(device))); }

struct Target {
  std::string name;
  std::string type;
  std::string parameters;
  uint64_t sectors = 0;
  bool read_only = false;
};

void load_table(int control, const Target& target) {
  Request request(target.name, target.read_only ? DM_READONLY_FLAG : 0);
  request.head()->target_count = 1;
  dm_target_spec spec = {};
  if (target.type.size() >= sizeof spec.target_type || sizeof spec + target.parameters.size() + 1 > request.room()) {
    throw SystemError(ENAMETOOLONG, "target of a device", target.name);
  }
  spec.length = target.sectors;
  memcpy(spec.target_type, target.type.c_str(), target.type.size());
  spec.next = static_cast<uint32_t>((sizeof spec + target.parameters.size() + 1 + 7) & ~size_t{7});
  memcpy(request.data(), &spec, sizeof spec);
  memcpy(request.data() + sizeof spec, target.parameters.c_str(), target.parameters.size() + 1);
  run(request, control, DM_TABLE_LOAD, "DM_TABLE_LOAD", target.name);
}

Napi::Value create_device(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  Target target;
  target.name = text_field(options, "name");
  target.type = text_field(options, "target");
  target.parameters = text_field(options, "parameters");
  target.sectors = static_cast<uint64_t>(int_field(options, "sectors"));
  target.read_only = bool_field(options, "readOnly");
  return on_own_thread(info.Env(), [target]() -> Settle {
    UniqueFd control = open_control();
    Request create(target.name);
    // the kernel says EBUSY when there is one of that name
    run(create, control.get(), DM_DEV_CREATE, "DM_DEV_CREATE", target.name);
    try {
      load_table(control.get(), target);
      Request resume(target.name);
      run(resume, control.get(), DM_DEV_SUSPEND, "DM_DEV_SUSPEND", target.name);
      std::string path = path_of(resume.head()->dev);
      return [path](Napi::Env env) { return Napi::String::New(env, path); };
    } catch (...) {
      Request undo(target.name);
      undo.run(control.get(), DM_DEV_REMOVE);
      throw;
    }
  });
}

Napi::Value remove_device_call(const Napi::CallbackInfo& info) {
  std::string name = string_argument(info, 0, "name");
  bool deferred = info[1].ToBoolean().Value();
  return on_own_thread(info.Env(), [name, deferred]() -> Settle {
    remove_device(open_control().get(), name, deferred);
    return settle_nothing();
  });
}

Napi::Value device_status(const Napi::CallbackInfo& info) {
  std::string name = string_argument(info, 0, "name");
  return on_own_thread(info.Env(), [name]() -> Settle {
    UniqueFd control = open_control();
    // without it, a pool would first write its table to the disk
    Request request(name, DM_NOFLUSH_FLAG);
    run(request, control.get(), DM_TABLE_STATUS, "DM_TABLE_STATUS", name);
    std::string path = path_of(request.head()->dev);
    std::string status;
    if (request.head()->target_count > 0) status = request.data() + sizeof(dm_target_spec);
    return [path, status](Napi::Env env) {
      Napi::Object told = Napi::Object::New(env);
      told.Set("path", path);
      told.Set("status", status);
      return told;
    };
  });
}

Napi::Value message_device(const Napi::CallbackInfo& info) {
  std::string name = string_argument(info, 0, "name");
  std::string text = string_argument(info, 1, "message");
  return on_own_thread(info.Env(), [name, text]() -> Settle {
    UniqueFd control = open_control();
    Request request(name);
    dm_target_msg message = {};
    if (sizeof message + text.size() + 1 > request.room()) throw SystemError(E2BIG, "DM_TARGET_MSG", name);
    memcpy(request.data(), &message, sizeof message);
    memcpy(request.data() + sizeof message, text.c_str(), text.size() + 1);
    run(request, control.get(), DM_TARGET_MSG, "DM_TARGET_MSG", name + ": " + text);
    return settle_nothing();
  });
}

// Grows until all names fit.
Napi::Value list_devices(const Napi::CallbackInfo& info) {
  return on_own_thread(info.Env(), []() -> Settle {
    UniqueFd control = open_control();
    for (size_t size = answer_bytes;; size *= 4) {
      std::vector<char> buffer(size);
      dm_ioctl head = {};
      head.version[0] = 4;
      head.version[1] = 27;
      head.data_size = static_cast<uint32_t>(size);
      head.data_start = sizeof head;
      memcpy(buffer.data(), &head, sizeof head);
      if (ioctl(control.get(), DM_LIST_DEVICES, buffer.data()) < 0) throw_errno("DM_LIST_DEVICES", control_path);
      memcpy(&head, buffer.data(), sizeof head);
      if ((head.flags & DM_BUFFER_FULL_FLAG) != 0) continue;
      std::vector<std::string> names;
      for (size_t at = head.data_start; at + sizeof(dm_name_list) <= size;) {
        dm_name_list entry;
        memcpy(&entry, buffer.data() + at, sizeof entry);
        // of no device: there are none
        if (entry.dev == 0) break;
        names.emplace_back(buffer.data() + at + offsetof(dm_name_list, name));
        if (entry.next == 0) break;
        at += entry.next;
      }
      return [names](Napi::Env env) {
        Napi::Array told = Napi::Array::New(env, names.size());
        for (uint32_t i = 0; i < names.size(); i++) told.Set(i, names[i]);
        return told;
      };
    }
  });
}

}  // namespace

void register_device_mapper(Napi::Object exports) {
  export_function<create_device>(exports, "createDevice");
  export_function<remove_device_call>(exports, "removeDevice");
  export_function<device_status>(exports, "deviceStatus");
  export_function<message_device>(exports, "messageDevice");
  export_function<list_devices>(exports, "listDevices");
}

}  // namespace berth
