// What is read from requests and from the kernel before anything is done with it.
#include "monitor/cgroup.h"
#include "monitor/check.h"
#include "monitor/path_in_root.h"
#include "monitor/plan_check.h"
#include "monitor/pod_setup.h"
#include "monitor/runtime_command.h"
#include "monitor/runtime_words.h"
#include "monitor/seccomp_answer.h"
#include "monitor/user_namespace.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace {

using namespace berth;

void test_oom_kills() {
  CHECK(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 12\n") == 12);
  CHECK(parse_oom_kills("low 0\nhigh 0\nmax 5\noom 3\noom_kill 2\noom_group_kill 7\n") == 2);
  CHECK(parse_oom_kills("") == 0 && parse_oom_kills("oom 1") == 0);
  CHECK(read_oom_kills("/nonexistent") == 0 && read_oom_kills("") == 0);
}

void test_sysctls() {
  CHECK(sysctl_path("net.ipv4.ip_forward") == "net/ipv4/ip_forward");
  CHECK(sysctl_path("net/ipv4/conf/eth0.5/forwarding") == "net/ipv4/conf/eth0.5/forwarding");
  CHECK(sysctl_path("net.ipv4.conf.eth0/5.forwarding") == "net/ipv4/conf/eth0.5/forwarding");
  CHECK(sysctl_path("kernel.shm_rmid_forced") == "kernel/shm_rmid_forced" && sysctl_path("kernel.sem") == "kernel/sem");
  for (const char* name : {"", "net", "kernel.core_pattern", "kernel.semaphore", "net/../kernel/core_pattern",
                           "net..ipv4", "/net/x", "net/./x", "net.a b", "net.a\nb", "vm.swappiness", "user.max_pid"}) {
    CHECK(sysctl_path(name).empty());
  }
}

std::string bytes_of(const std::vector<sock_filter>& program) {
  return std::string(reinterpret_cast<const char*>(program.data()), program.size() * sizeof(sock_filter));
}

void test_seccomp_answers() {
  CHECK(!filter_allows("", 1, 0, 0) && !filter_allows("short", 1, 0, 0));
  const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1);
  const sock_filter load_number = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  CHECK(filter_allows(bytes_of({allow}), 1, 0, 0) && !filter_allows(bytes_of({refuse}), 1, 0, 0));
  CHECK(filter_allows(bytes_of({BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_LOG)}), 1, 0, 0));
  const std::string one = bytes_of({load_number, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 56, 0, 1), allow, refuse});
  CHECK(filter_allows(one, 56, 0, 0) && !filter_allows(one, 57, 0, 0));
  // as the default profile looks at clone's flags
  const sock_filter load_flags = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args));
  const std::string flags = bytes_of({load_flags, BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x7e020000),
                                      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), allow, refuse});
  CHECK(filter_allows(flags, 56, 0x8011, 0) && !filter_allows(flags, 56, 0x10000000, 0));
  // beyond its end, beyond the data, and what libseccomp does not make
  CHECK(!filter_allows(bytes_of({BPF_JUMP(BPF_JMP | BPF_JA, 0xffffffff, 0, 0), allow}), 1, 0, 0));
  CHECK(!filter_allows(bytes_of({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 62), allow}), 1, 0, 0));
  CHECK(!filter_allows(bytes_of({BPF_STMT(BPF_MISC | BPF_TAX, 0), allow}), 1, 0, 0));
}

void test_id_maps() {
  IdMap map;
  CHECK(map.to_host(0) == 0 && map.to_host(4294967294) == 4294967294);
  CHECK(parse_id_map("0:100000:65536", map));
  CHECK(map.to_host(0) == 100000 && map.to_host(65535) == 165535 && map.to_host(65536) == 100000);
  CHECK(parse_id_map("0:4294967294:1", map) && map.to_host(0) == 4294967294);
  for (const char* text : {"", "0", "0:1", "0:1:", "0:1:0", "1:1:1", "0:1:1:", "0:1:1x", " 0:1:1", "0:-1:1",
                           "0:4294967296:1", "0::1"}) {
    IdMap other;
    CHECK(!parse_id_map(text, other));
  }
}

void test_ids() {
  CHECK(!check_container_id("0123abc"));
  for (const char* id : {"", ".", "..", ".x", "a/b"}) CHECK(check_container_id(id));
  CHECK(check_container_id(std::string(129, 'a')));
}

Mount mount_at(const char* destination, uint32_t source_fd, const char* type) {
  Mount mount;
  mount.destination = destination;
  mount.source_fd = source_fd;
  mount.type = type;
  return mount;
}

void test_plan() {
  Plan plan;
  CHECK(check_plan(plan, 1)->error.subject == "process.args");
  plan.process.args = {"sh"};
  CHECK(check_plan(plan, 1)->error.subject == "root_fd");
  plan.root_fd = 1;
  CHECK(!check_plan(plan, 1));
  for (const char* destination : {"", "a", "/", "//", "/a/../b", "/a/.", "/.."}) {
    Plan bad = plan;
    bad.mounts.push_back(mount_at(destination, 1, ""));
    CHECK(check_plan(bad, 1));
  }
  Plan mounts = plan;
  mounts.mounts = {mount_at("/a..b/.c", 1, ""), mount_at("/proc", 0, "proc")};
  CHECK(!check_plan(mounts, 1));
  mounts.mounts[0].source_fd = 2;
  CHECK(check_plan(mounts, 1));
  mounts.mounts[0].source_fd = 1;
  mounts.mounts[1].type = "ext4";
  CHECK(check_plan(mounts, 1));
  Plan process = plan;
  process.process.env = {std::string("A=\0B", 4)};
  CHECK(check_plan(process, 1)->error.subject == "process.env");
  process = plan;
  process.process.cwd = "relative";
  CHECK(check_plan(process, 1)->error.subject == "process.cwd");
}

void test_paths() {
  CHECK(links_for("/proc/sys") == Links::kRefused && links_for("//dev") == Links::kRefused);
  CHECK(links_for("/processes") == Links::kWithinRoot && links_for("/var/run") == Links::kWithinRoot);

  char name[] = "/tmp/berth-paths-XXXXXX";
  CHECK(mkdtemp(name) != nullptr);
  const std::string base = name;
  CHECK(mkdir((base + "/root").c_str(), 0755) == 0 && mkdir((base + "/root/var").c_str(), 0755) == 0);
  // A dangling link, one that tries to leave, and a circle.
  CHECK(symlink("/run", (base + "/root/var/run").c_str()) == 0);
  CHECK(symlink("../../../../outside", (base + "/root/escape").c_str()) == 0);
  CHECK(symlink("circle", (base + "/root/circle").c_str()) == 0);
  const UniqueFd root(open((base + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  CHECK(root);
  CHECK(make_in_root(root.get(), "/var/run/secrets/k8s", Links::kWithinRoot, {}));
  CHECK(make_in_root(root.get(), "/escape/x", Links::kWithinRoot, {}));
  MakeMissing file;
  file.as_file = true;
  CHECK(make_in_root(root.get(), "/etc/hosts", Links::kWithinRoot, file));
  struct stat status = {};
  CHECK(stat((base + "/root/run/secrets/k8s").c_str(), &status) == 0 && S_ISDIR(status.st_mode));
  CHECK(stat((base + "/root/outside/x").c_str(), &status) == 0 && S_ISDIR(status.st_mode));
  CHECK(stat((base + "/root/etc/hosts").c_str(), &status) == 0 && S_ISREG(status.st_mode));
  CHECK(stat((base + "/outside").c_str(), &status) != 0);
  CHECK(!make_in_root(root.get(), "/circle/x", Links::kWithinRoot, {}) && errno == ELOOP);
  CHECK(!make_in_root(root.get(), "/var/run/x", Links::kRefused, {}) && errno == ELOOP);
  CHECK(!make_in_root(root.get(), "/etc/hosts/x", Links::kWithinRoot, {}) && errno == ENOTDIR);
  for (const char* path : {"/root/run/secrets/k8s", "/root/run/secrets", "/root/run", "/root/outside/x", "/root/outside",
                           "/root/var/run", "/root/var", "/root/escape", "/root/circle", "/root/etc/hosts", "/root/etc",
                           "/root", ""}) {
    CHECK(remove((base + path).c_str()) == 0);
  }
}

void test_runtime_logs() {
  CHECK(last_log_error("").empty() && last_log_error("not json\n{\"level\":\"error\"}\n").empty());
  CHECK(last_log_error("{\"level\":\"warning\",\"msg\":\"first\"}\n").empty());
  CHECK(last_log_error("{\"level\":\"error\",\"msg\":\"one\"}\n{\"level\":\"error\",\"msg\":\"two\",\"time\":\"t\"}") == "two");
  CHECK(last_log_error("{\"msg\": \"no \\\"sh\\\" \\u003c here\\n\", \"level\": \"error\"}") == "no \"sh\" < here");
  CHECK(last_log_error("{\"level\":\"error\",\"msg\":\"cut off \\") == "cut off \\");
  CHECK(last_log_error("{\"level\":\"error\",\"msg\":\"" + std::string(100000, 'x')).size() == 4096);
}

void test_faults_of_programs() {
  const auto told = [](const char* words, const char* program = "/no/such", const char* directory = "/srv/data") {
    const auto fault = fault_of_program(words, program, directory);
    if (!fault) return std::string("none");
    CHECK(fault->kind == ErrorKind::kInvalid && fault->message == words);
    return fault->error.describe();
  };
  const char* missing = "execve /no/such: No such file or directory";
  CHECK(told("runc create failed: unable to start container process: exec: \"/no/such\": stat /no/such: no such file or "
             "directory") == missing);
  CHECK(told("exec failed: unable to start container process: error during container init: exec: \"/no/such\": executable "
             "file not found in $PATH") == missing);
  CHECK(told("executable file `/no/such` not found in $PATH: No such file or directory") == missing);
  CHECK(told("executable file `/no/such` not found: No such file or directory") == missing);
  CHECK(told("open executable: Permission denied") == "execve /no/such: Permission denied");
  CHECK(told("unable to start container process: exec: \"a\\\"\\\\\\n\": permission denied", "a\"\\\n") ==
        "execve a\"\\\n: Permission denied");
  const char* file = "enter the working directory /srv/data: Not a directory";
  CHECK(told("unable to start container process: error during container init: mkdir /srv: not a directory") == file);
  CHECK(told("exec failed: unable to start container process: chdir to cwd (\"/srv/data\") set in config.json failed: not a "
             "directory") == file);
  CHECK(told("chdir `/srv/data`: Not a directory") == file && told("chdir to `/srv/data`: Not a directory") == file);

  // of another program, of other directories, in another place, for another reason
  for (const char* words :
       {"runc create failed: unable to start container process: error running hook #0: exec: \"/no/such\": stat /no/such: no "
        "such file or directory",
        "unable to start container process: exec: \"/no/other\": stat /no/other: no such file or directory",
        "unable to start container process: exec: \"/no/such\": input/output error", "exec: \"/no/such\": permission denied",
        "executable file `/no/other` not found in $PATH: No such file or directory", "open executable: Input/output error",
        "unable to start container process: error during container init: mkdir /sr: not a directory",
        "unable to start container process: error during container init: mkdir : not a directory",
        "unable to start container process: mkdir", "unable to start container process: ", "chdir `/srv`: Not a directory",
        "mkdir /srv/data: not a directory", "no such file or directory", "", "create `/no/such`: Permission denied"}) {
    CHECK(told(words) == "none");
  }
}

void test_orphans() {
  OrphanEnds orphans;
  siginfo_t info = {};
  info.si_pid = 7;
  orphans.add(info);
  CHECK(!orphans.take(7, info));
  orphans.command_begins();
  orphans.command_begins();
  orphans.add(info);
  orphans.command_ended();
  CHECK(!orphans.take(8, info) && orphans.take(7, info) && !orphans.take(7, info));
  orphans.add(info);
  orphans.command_ended();
  orphans.command_begins();
  CHECK(!orphans.take(7, info));
}

void test_oci_runtime() {
  Plan plan;
  plan.process.args = {"sh"};
  plan.root_fd = 1;
  plan.oci_runtime.path = "/usr/sbin/runc";
  CHECK(check_plan(plan, 1)->error.subject == "oci_runtime.bundle");
  plan.oci_runtime.bundle = "/run/bundle";
  CHECK(!check_plan(plan, 1));
  plan.mounts.push_back(mount_at("/run/bundle/mounts/0", 0, "tmpfs"));
  CHECK(check_plan(plan, 1)->error.subject == "/run/bundle/mounts/0");
  plan.mounts.front().type = "shm";
  CHECK(!check_plan(plan, 1));
  plan.oci_runtime.path = "runc";
  CHECK(check_plan(plan, 1)->error.subject == "oci_runtime.path");
}

}  // namespace

int main() {
  test_runtime_logs();
  test_faults_of_programs();
  test_orphans();
  test_oci_runtime();
  test_oom_kills();
  test_sysctls();
  test_seccomp_answers();
  test_ids();
  test_id_maps();
  test_plan();
  test_paths();
  return 0;
}
