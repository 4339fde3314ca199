// The functions of the Addon interface (native/binding.ts), one registration per file.
#pragma once

#include <napi.h>

#include "addon/system_error.h"

namespace berth {

// Turns a SystemError that is thrown on the loop's thread into JavaScript's.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return function(info);
  } catch (const SystemError& error) {
    throw error.to_js(info.Env());
  }
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void export_function(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<guarded<function>>(exports.Env(), name));
}

void register_block_mount(Napi::Object exports);
void register_bpf_device(Napi::Object exports);
void register_btrfs(Napi::Object exports);
void register_byte_stream(Napi::Object exports);
void register_conntrack(Napi::Object exports);
void register_cgroup(Napi::Object exports);
void register_device_mapper(Napi::Object exports);
void register_disk_usage(Napi::Object exports);
void register_features(Napi::Object exports);
void register_filesystem(Napi::Object exports);
void register_inherit_directories(Napi::Object exports);
void register_lock(Napi::Object exports);
void register_loopback_connect(Napi::Object exports);
void register_monitor_socket(Napi::Object exports);
void register_mount(Napi::Object exports);
void register_namespace_pin(Napi::Object exports);
void register_netlink(Napi::Object exports);
void register_network_lists(Napi::Object exports);
void register_network_watch(Napi::Object exports);
void register_nft_elements(Napi::Object exports);
void register_nftables(Napi::Object exports);
void register_processes(Napi::Object exports);
void register_password(Napi::Object exports);
void register_process(Napi::Object exports);
void register_project_quota(Napi::Object exports);
void register_relabel(Napi::Object exports);
void register_remove_tree(Napi::Object exports);
void register_run_program(Napi::Object exports);
void register_sampler(Napi::Object exports);
void register_series_text(Napi::Object exports);
void register_service_manager(Napi::Object exports);
void register_seccomp(Napi::Object exports);
void register_seccomp_denials(Napi::Object exports);
void register_spawn_monitor(Napi::Object exports);
void register_spawn_program(Napi::Object exports);
void register_stats(Napi::Object exports);
void register_terminal(Napi::Object exports);
void register_traffic_control(Napi::Object exports);
void register_unused_memory(Napi::Object exports);
void register_user_namespace(Napi::Object exports);
void register_veth(Napi::Object exports);

}  // namespace berth
