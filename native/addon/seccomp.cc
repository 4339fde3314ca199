// A seccomp profile in the OCI runtime specification's words, compiled to the kernel's filter program.
//
// The filter is for the native architecture, plus those of the profile's `architectures` that this machine can run beside
// it (x86 and x32 on x86_64, arm on aarch64); the others are left out, as they can never call. A call of an architecture
// that is not in the filter kills the process. System calls that are newer than all that the profile knows are answered
// ENOSYS where the default action refuses, so that programs fall back to the older call instead of giving up.
//
// Each architecture has a filter of libseccomp's of its own, and the programs are put behind each other: libseccomp cannot
// translate the number of a call whose name it does not know, and takes three times as long for one program of all. The
// whole is made shorter at the end.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "common/seccomp_program.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

#if defined(__x86_64__)
constexpr uint32_t native_audit_arch = AUDIT_ARCH_X86_64;
constexpr uint32_t foreign_call_bit = 0x40000000;  // x32 calls carry the native architecture's number
#elif defined(__aarch64__)
constexpr uint32_t native_audit_arch = AUDIT_ARCH_AARCH64;
constexpr uint32_t foreign_call_bit = 0;
#endif

// From this number on a call has one number on all architectures (Linux 5.1).
constexpr int first_common_number = 424;

[[noreturn]] void refuse(const std::string& field, const std::string& why, int errno_value = EINVAL) {
  throw SystemError(errno_value, "seccomp", field, why);
}

// ---- names to numbers ----

uint32_t to_action(const std::string& name, int64_t errno_value, const std::string& field) {
  if (errno_value < 0 || errno_value > 0xffff) refuse(field, "errnoRet must be 0 to 65535");
  uint16_t number = static_cast<uint16_t>(errno_value);
  if (name == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (name == "SCMP_ACT_ERRNO") return SCMP_ACT_ERRNO(number);
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") return SCMP_ACT_KILL_THREAD;
  if (name == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  if (name == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  if (name == "SCMP_ACT_TRACE") return SCMP_ACT_TRACE(number);
  if (name == "SCMP_ACT_LOG") return SCMP_ACT_LOG;
  if (name == "SCMP_ACT_NOTIFY") refuse(field, "SCMP_ACT_NOTIFY needs a listener, which is not supported", ENOTSUP);
  refuse(field, "unknown action \"" + name + "\"");
}

scmp_compare to_compare(const std::string& op, const std::string& field) {
  static const std::map<std::string, scmp_compare> ops = {
      {"SCMP_CMP_NE", SCMP_CMP_NE},
      {"SCMP_CMP_LT", SCMP_CMP_LT},
      {"SCMP_CMP_LE", SCMP_CMP_LE},
      {"SCMP_CMP_EQ", SCMP_CMP_EQ},
      {"SCMP_CMP_GE", SCMP_CMP_GE},
      {"SCMP_CMP_GT", SCMP_CMP_GT},
      {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
  };
  auto found = ops.find(op);
  if (found == ops.end()) refuse(field + ".op", "unknown operator \"" + op + "\"");
  return found->second;
}

// 0: known to the specification, but this machine cannot run it.
uint32_t to_architecture(const std::string& name, const std::string& field) {
  static const char* const known[] = {
      "SCMP_ARCH_X86",    "SCMP_ARCH_X86_64",   "SCMP_ARCH_X32",      "SCMP_ARCH_ARM",         "SCMP_ARCH_AARCH64",
      "SCMP_ARCH_MIPS",   "SCMP_ARCH_MIPS64",   "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",     "SCMP_ARCH_MIPSEL64",
      "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64",    "SCMP_ARCH_PPC64LE",     "SCMP_ARCH_S390",
      "SCMP_ARCH_S390X",  "SCMP_ARCH_PARISC",   "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",     "SCMP_ARCH_LOONGARCH64",
      "SCMP_ARCH_M68K",   "SCMP_ARCH_SH",       "SCMP_ARCH_SHEB",
  };
#if defined(__x86_64__)
  if (name == "SCMP_ARCH_X86_64") return SCMP_ARCH_X86_64;
  if (name == "SCMP_ARCH_X86") return SCMP_ARCH_X86;
  if (name == "SCMP_ARCH_X32") return SCMP_ARCH_X32;
#elif defined(__aarch64__)
  if (name == "SCMP_ARCH_AARCH64") return SCMP_ARCH_AARCH64;
  if (name == "SCMP_ARCH_ARM") return SCMP_ARCH_ARM;
#endif
  if (std::find(std::begin(known), std::end(known), name) == std::end(known)) {
    refuse(field, "unknown architecture \"" + name + "\"");
  }
  return 0;
}

// Calls that Debian 12's libseccomp does not know by name. Since 5.1 a new call has one number on all architectures.
int newer_syscall(const std::string& name) {
  static const std::map<std::string, int> numbers = {
      {"process_mrelease", 448},    {"futex_waitv", 449},       {"set_mempolicy_home_node", 450},
      {"cachestat", 451},           {"fchmodat2", 452},         {"map_shadow_stack", 453},
      {"futex_wake", 454},          {"futex_wait", 455},        {"futex_requeue", 456},
      {"statmount", 457},           {"listmount", 458},         {"lsm_get_self_attr", 459},
      {"lsm_set_self_attr", 460},   {"lsm_list_modules", 461},  {"mseal", 462},
      {"setxattrat", 463},          {"getxattrat", 464},        {"listxattrat", 465},
      {"removexattrat", 466},       {"open_tree_attr", 467},    {"file_getattr", 468},
      {"file_setattr", 469},        {"listns", 470},
  };
  auto found = numbers.find(name);
  return found == numbers.end() ? __NR_SCMP_ERROR : found->second;
}

uint64_t to_number64(const Napi::Value& value, const std::string& field) {
  if (value.IsNumber()) return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
  std::string text = to_text(value, field.c_str());
  char* end = nullptr;
  errno = 0;
  uint64_t number = strtoull(text.c_str(), &end, 0);
  if (text.empty() || *end != '\0' || errno != 0) refuse(field, "\"" + text + "\" is no 64-bit number");
  return number;
}

// ---- the filter ----

// One filter of libseccomp's, of the native architecture or another.
class Filter {
 public:
  explicit Filter(uint32_t default_action) : default_action_(default_action), context_(seccomp_init(default_action)) {
    if (context_ == nullptr) throw SystemError(ENOMEM, "seccomp_init", "");
    // no_new_privs is the launcher's business; a foreign architecture's calls kill the process, not just a thread.
    set(SCMP_FLTATR_CTL_NNP, 0);
    set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    // A tree instead of a chain: the kernel walks through it for every call that there is when it loads the filter.
    set(SCMP_FLTATR_CTL_OPTIMIZE, 2);
  }
  ~Filter() { seccomp_release(context_); }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  void replace_architecture(uint32_t architecture) {
    int status = seccomp_arch_remove(context_, SCMP_ARCH_NATIVE);
    if (status == 0) status = seccomp_arch_add(context_, architecture);
    if (status < 0) refuse("architectures", strerror(-status), -status);
  }

  void add_rule(uint32_t action, int number, const std::vector<scmp_arg_cmp>& args, const std::string& field) {
    // It would change nothing, and libseccomp refuses it.
    if (action == default_action_) return;
    int status = seccomp_rule_add_array(context_, action, number, static_cast<unsigned>(args.size()), args.data());
    if (status < 0) refuse(field, strerror(-status), -status);
  }

  std::vector<sock_filter> program() const {
    UniqueFd file(memfd_create("seccomp", MFD_CLOEXEC));
    if (!file) throw_errno("memfd_create", "seccomp");
    int status = seccomp_export_bpf(context_, file.get());
    if (status < 0) throw SystemError(-status, "seccomp_export_bpf", "");
    if (lseek(file.get(), 0, SEEK_SET) < 0) throw_errno("lseek", "seccomp");
    std::string bytes = read_descriptor(file.get(), BPF_MAXINSNS * sizeof(sock_filter), "seccomp filter");
    std::vector<sock_filter> program(bytes.size() / sizeof(sock_filter));
    memcpy(program.data(), bytes.data(), program.size() * sizeof(sock_filter));
    return program;
  }

 private:
  void set(scmp_filter_attr attribute, uint32_t value) {
    int status = seccomp_attr_set(context_, attribute, value);
    if (status < 0) throw SystemError(-status, "seccomp_attr_set", "");
  }

  uint32_t default_action_;
  scmp_filter_ctx context_;
};

bool refuses(uint32_t action) { return action != SCMP_ACT_ALLOW && action != SCMP_ACT_LOG; }

// In front of the filter: calls of one architecture that are decided before libseccomp's program sees them.
class FrontPart {
 public:
  // Calls without `call_bit` in their number are not its.
  FrontPart(uint32_t audit_arch, uint32_t call_bit) : audit_arch_(audit_arch), call_bit_(call_bit) {}

  // Of several rules for one call the first counts.
  void decide(int number, uint32_t action) { actions_.emplace(static_cast<uint32_t>(number) | call_bit_, action); }

  // Calls with a number above it, up to the one where those of another architecture begin, are answered ENOSYS.
  void set_newest(int newest, uint32_t end) {
    newest_ = static_cast<uint32_t>(newest);
    end_ = end;
  }

  void put_in_front_of(std::vector<sock_filter>* program) const {
    std::vector<sock_filter> checks;
    for (const auto& [number, action] : actions_) {
      checks.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
      checks.push_back(BPF_STMT(BPF_RET | BPF_K, action));
    }
    if (newest_ != 0) {
      if (end_ != 0) checks.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, end_, 2, 0));
      checks.push_back(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, newest_, 0, 1));
      checks.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
    }
    if (checks.empty()) return;
    const auto skipped = static_cast<uint32_t>(checks.size() + 1);
    std::vector<sock_filter> front = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, audit_arch_, 1, 0),
        // a jump without a condition may be longer than 255
        BPF_STMT(BPF_JMP | BPF_JA, skipped),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
    };
    front.insert(front.end(), checks.begin(), checks.end());
    program->insert(program->begin(), front.begin(), front.end());
  }

 private:
  uint32_t audit_arch_;
  uint32_t call_bit_;
  std::map<uint32_t, uint32_t> actions_;
  uint32_t newest_ = 0;
  uint32_t end_ = 0;
};

// An architecture that this machine runs beside its own.
struct ForeignArchitecture {
  ForeignArchitecture(uint32_t architecture, uint32_t default_action)
      : number(architecture),
        audit_arch(audit_arch_of(architecture)),
        call_bit(audit_arch == native_audit_arch ? foreign_call_bit : 0),
        filter(default_action),
        front(audit_arch, call_bit) {
    filter.replace_architecture(architecture);
  }

  static uint32_t audit_arch_of([[maybe_unused]] uint32_t architecture) {
#if defined(__x86_64__)
    return architecture == SCMP_ARCH_X32 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_I386;
#elif defined(__aarch64__)
    return AUDIT_ARCH_ARM;
#endif
  }

  // Calls of other architectures go on behind it.
  std::vector<sock_filter> program() const {
    std::vector<sock_filter> own = filter.program();
    std::vector<sock_filter> guard = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, audit_arch, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, call_bit, 1, 0),
        BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(own.size())),
    };
    own.insert(own.begin(), guard.begin(), guard.end());
    return own;
  }

  uint32_t number;  // libseccomp's
  uint32_t audit_arch;
  uint32_t call_bit;
  Filter filter;
  FrontPart front;
};

bool has_common_numbers(uint32_t architecture) {
#if defined(__x86_64__)
  // x32 has further calls of its own above the common ones.
  return architecture != SCMP_ARCH_X32;
#else
  return architecture == SCMP_ARCH_ARM;
#endif
}

// The whole: a filter for the native architecture, and one for each of the others.
class Program {
 public:
  Program(uint32_t default_action, const std::vector<uint32_t>& foreign)
      : default_action_(default_action), native_(default_action) {
    for (uint32_t architecture : foreign) {
      foreign_.push_back(std::make_unique<ForeignArchitecture>(architecture, default_action));
    }
  }

  void add_rule(uint32_t action, const std::string& name, const std::vector<scmp_arg_cmp>& args,
                const std::string& field) {
    int number = seccomp_syscall_resolve_name(name.c_str());
    const bool is_newer = number == __NR_SCMP_ERROR;
    if (is_newer) number = newer_syscall(name);
    if (number == __NR_SCMP_ERROR) return;
    // Negative: a call that only other architectures have.
    newest_ = std::max(newest_, number);
    native_.add_rule(action, number, args, field);
    if (is_newer) {
      // Its arguments would have to be compared here: what a rule with some allows stays with the default action.
      if (args.empty()) decide(number, action);
    } else if (name == "socketcall" && args.empty() && refuses(action)) {
      refuse_socketcall(action);
    } else {
      for (auto& foreign : foreign_) foreign->filter.add_rule(action, number, args, field);
    }
  }

  std::vector<sock_filter> finish() {
    std::vector<sock_filter> program = native_.program();
    for (auto& foreign : foreign_) {
      std::vector<sock_filter> part = foreign->program();
      program.insert(program.begin(), part.begin(), part.end());
    }
    const bool hides_unknown = refuses(default_action_) && newest_ >= 0;
    for (auto& foreign : foreign_) {
      if (hides_unknown && newest_ >= first_common_number && has_common_numbers(foreign->number)) {
        foreign->front.set_newest(newest_, 0);
      }
      foreign->front.put_in_front_of(&program);
    }
    if (hides_unknown) {
      FrontPart front(native_audit_arch, 0);
      front.set_newest(newest_, foreign_call_bit);
      front.put_in_front_of(&program);
    }
    return program;
  }

 private:
  void decide(int number, uint32_t action) {
    for (auto& foreign : foreign_) foreign->front.decide(number, action);
  }

  // A rule that allows socket, bind and so on is to libseccomp one that allows them through socketcall, too, where the
  // arguments that it compares are behind a pointer: refused calls must be decided before.
  void refuse_socketcall(uint32_t action) {
    for (auto& foreign : foreign_) {
      int number = seccomp_syscall_resolve_name_arch(foreign->number, "socketcall");
      if (number >= 0) foreign->front.decide(number, action);
    }
  }

  uint32_t default_action_;
  Filter native_;
  std::vector<std::unique_ptr<ForeignArchitecture>> foreign_;
  int newest_ = -1;
};

// ---- the profile ----

std::vector<scmp_arg_cmp> to_args(const Napi::Value& value, const std::string& field) {
  std::vector<scmp_arg_cmp> args;
  if (value.IsUndefined() || value.IsNull()) return args;
  if (!value.IsArray()) refuse(field, "must be an array");
  Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    std::string name = field + "[" + std::to_string(i) + "]";
    Napi::Value item = array.Get(i);
    if (!item.IsObject()) refuse(name, "must be an object");
    Napi::Object object = item.As<Napi::Object>();
    int64_t index = int_field(object, "index");
    if (index < 0 || index > 5) refuse(name + ".index", "must be 0 to 5");
    scmp_arg_cmp arg = {};
    arg.arg = static_cast<unsigned>(index);
    arg.op = to_compare(text_field(object, "op"), name);
    arg.datum_a = to_number64(object.Get("value"), name + ".value");
    if (has_field(object, "valueTwo")) arg.datum_b = to_number64(object.Get("valueTwo"), name + ".valueTwo");
    args.push_back(arg);
  }
  return args;
}

bool tests_one_argument_twice(const std::vector<scmp_arg_cmp>& args) {
  unsigned seen = 0;
  for (const scmp_arg_cmp& arg : args) {
    if (seen & 1U << arg.arg) return true;
    seen |= 1U << arg.arg;
  }
  return false;
}

void add_rule(Program* program, const Napi::Object& rule, const std::string& field) {
  uint32_t action = to_action(text_field(rule, "action"), int_field_or(rule, "errnoRet", EPERM), field + ".action");
  std::vector<scmp_arg_cmp> args = to_args(rule.Get("args"), field + ".args");
  for (const std::string& name : texts_field(rule, "names")) {
    std::string subject = field + " " + name;
    if (tests_one_argument_twice(args)) {
      // libseccomp has no "and" for one argument: as other runtimes do, any of the conditions is enough.
      for (const scmp_arg_cmp& arg : args) program->add_rule(action, name, {arg}, subject);
    } else {
      program->add_rule(action, name, args, subject);
    }
  }
}

// Those beside the native one that this machine can run, each once.
std::vector<uint32_t> foreign_architectures(const Napi::Object& profile) {
  std::vector<uint32_t> found;
  if (!has_field(profile, "architectures")) return found;
  for (const std::string& name : texts_field(profile, "architectures")) {
    uint32_t architecture = to_architecture(name, "architectures");
    if (architecture == 0 || architecture == seccomp_arch_native()) continue;
    if (std::find(found.begin(), found.end(), architecture) == found.end()) found.push_back(architecture);
  }
  return found;
}

void check_flags(const Napi::Object& profile) {
  static const char* const known[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                                      "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  if (!has_field(profile, "flags")) return;
  for (const std::string& flag : texts_field(profile, "flags")) {
    if (std::find(std::begin(known), std::end(known), flag) == std::end(known)) {
      refuse("flags", "unknown flag \"" + flag + "\"");
    }
  }
}

Napi::Value compile_seccomp(const Napi::CallbackInfo& info) {
  Napi::Object profile = object_argument(info, 0, "profile");
  check_flags(profile);
  uint32_t default_action = to_action(text_field(profile, "defaultAction"),
                                      int_field_or(profile, "defaultErrnoRet", EPERM), "defaultAction");
  Program filter(default_action, foreign_architectures(profile));
  if (has_field(profile, "syscalls")) {
    Napi::Value value = profile.Get("syscalls");
    if (!value.IsArray()) refuse("syscalls", "must be an array");
    Napi::Array rules = value.As<Napi::Array>();
    for (uint32_t i = 0; i < rules.Length(); i++) {
      Napi::HandleScope handles(info.Env());
      std::string field = "syscalls[" + std::to_string(i) + "]";
      Napi::Value rule = rules.Get(i);
      if (!rule.IsObject()) refuse(field, "must be an object");
      add_rule(&filter, rule.As<Napi::Object>(), field);
    }
  }
  std::vector<sock_filter> program = compact_seccomp_program(filter.finish());
  if (program.size() > BPF_MAXINSNS) refuse("syscalls", "the filter has more than 4096 instructions", E2BIG);
  return Napi::Buffer<char>::Copy(info.Env(), reinterpret_cast<const char*>(program.data()),
                                  program.size() * sizeof(sock_filter));
}

}  // namespace

void register_seccomp(Napi::Object exports) { export_function<compile_seccomp>(exports, "compileSeccomp"); }

}  // namespace berth
