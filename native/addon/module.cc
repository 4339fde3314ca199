#include "addon/functions.h"

static Napi::Object init(Napi::Env, Napi::Object exports) {
  using namespace berth;
  register_spawn_monitor(exports);
  register_spawn_program(exports);
  register_process(exports);
  register_password(exports);
  register_run_program(exports);
  register_project_quota(exports);
  register_relabel(exports);
  register_remove_tree(exports);
  register_monitor_socket(exports);
  register_btrfs(exports);
  register_byte_stream(exports);
  register_loopback_connect(exports);
  register_mount(exports);
  register_block_mount(exports);
  register_device_mapper(exports);
  register_namespace_pin(exports);
  register_cgroup(exports);
  register_bpf_device(exports);
  register_stats(exports);
  register_sampler(exports);
  register_series_text(exports);
  register_service_manager(exports);
  register_processes(exports);
  register_disk_usage(exports);
  register_filesystem(exports);
  register_inherit_directories(exports);
  register_seccomp(exports);
  register_seccomp_denials(exports);
  register_netlink(exports);
  register_network_lists(exports);
  register_network_watch(exports);
  register_traffic_control(exports);
  register_unused_memory(exports);
  register_conntrack(exports);
  register_nft_elements(exports);
  register_nftables(exports);
  register_features(exports);
  register_lock(exports);
  register_terminal(exports);
  register_user_namespace(exports);
  register_veth(exports);
  return exports;
}

NODE_API_MODULE(berth, init)
