// cgroup2's device controller: a BPF program that answers for every access to a device node.
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

int bpf(bpf_cmd command, bpf_attr* attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, attributes, sizeof *attributes));
}

UniqueFd load(const std::vector<uint8_t>& instructions, const std::string& directory) {
  std::vector<char> log(16 << 10);
  // The program calls no helper of the kernel's, so that its license plays no part.
  const char* license = "Apache-2.0";
  bpf_attr attributes = {};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = reinterpret_cast<uintptr_t>(instructions.data());
  attributes.insn_cnt = static_cast<uint32_t>(instructions.size() / sizeof(bpf_insn));
  attributes.license = reinterpret_cast<uintptr_t>(license);
  strcpy(attributes.prog_name, "berth_devices");
  UniqueFd program(bpf(BPF_PROG_LOAD, &attributes));
  if (program) return program;
  // The verifier's words cost time: they are asked for only when it has refused.
  attributes.log_buf = reinterpret_cast<uintptr_t>(log.data());
  attributes.log_size = static_cast<uint32_t>(log.size());
  attributes.log_level = 1;
  program.reset(bpf(BPF_PROG_LOAD, &attributes));
  if (program) return program;
  int value = errno;
  log.back() = '\0';
  throw SystemError(value, "bpf(BPF_PROG_LOAD)", directory, log.data());
}

std::vector<uint32_t> attached_programs(int cgroup, const std::string& directory) {
  std::vector<uint32_t> ids(64);
  bpf_attr attributes = {};
  attributes.query.target_fd = static_cast<uint32_t>(cgroup);
  attributes.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.query.prog_ids = reinterpret_cast<uintptr_t>(ids.data());
  attributes.query.prog_cnt = static_cast<uint32_t>(ids.size());
  if (bpf(BPF_PROG_QUERY, &attributes) < 0) throw_errno("bpf(BPF_PROG_QUERY)", directory);
  ids.resize(attributes.query.prog_cnt);
  return ids;
}

void attach(int cgroup, int program, const std::string& directory) {
  bpf_attr attributes = {};
  attributes.target_fd = static_cast<uint32_t>(cgroup);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program);
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, &attributes) < 0) throw_errno("bpf(BPF_PROG_ATTACH)", directory);
}

void detach(int cgroup, uint32_t id, const std::string& directory) {
  bpf_attr lookup = {};
  lookup.prog_id = id;
  UniqueFd program(bpf(BPF_PROG_GET_FD_BY_ID, &lookup));
  if (!program) {
    if (errno == ENOENT) return;
    throw_errno("bpf(BPF_PROG_GET_FD_BY_ID)", directory);
  }
  bpf_attr attributes = {};
  attributes.target_fd = static_cast<uint32_t>(cgroup);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  if (bpf(BPF_PROG_DETACH, &attributes) < 0 && errno != ENOENT) throw_errno("bpf(BPF_PROG_DETACH)", directory);
}

Napi::Value attach_device_program(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string directory = text_field(options, "directory");
  Napi::Value field = options.Get("instructions");
  if (!field.IsTypedArray() || field.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), "instructions must be a Uint8Array");
  }
  Napi::Uint8Array bytes = field.As<Napi::Uint8Array>();
  if (bytes.ByteLength() == 0 || bytes.ByteLength() % sizeof(bpf_insn) != 0) {
    throw Napi::TypeError::New(info.Env(), "instructions must be whole struct bpf_insn of 8 bytes each");
  }
  std::vector<uint8_t> instructions(bytes.Data(), bytes.Data() + bytes.ByteLength());
  return on_own_thread(info.Env(), [directory, instructions]() -> Settle {
    UniqueFd cgroup = open_file(directory, O_RDONLY | O_DIRECTORY);
    UniqueFd program = load(instructions, directory);
    // All programs of a cgroup must agree, so there is no moment without a rule: the new one first, then the old ones go.
    std::vector<uint32_t> old = attached_programs(cgroup.get(), directory);
    attach(cgroup.get(), program.get(), directory);
    for (uint32_t id : old) detach(cgroup.get(), id, directory);
    return settle_nothing();
  });
}

}  // namespace

void register_bpf_device(Napi::Object exports) {
  export_function<attach_device_program>(exports, "attachDeviceProgram");
}

}  // namespace berth
