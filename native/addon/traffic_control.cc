// Bandwidth of a pod: a token bucket on the host's end of its veth for what goes to the pod. What comes from the pod is
// led through an interface of its own (ifb) that has the other bucket: only what leaves an interface can be delayed.
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/netlink_socket.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

constexpr uint32_t root_handle = 0x0001'0000;
constexpr uint32_t ingress_handle = 0xffff'0000;

struct Shape {
  std::string link;
  std::string ifb;    // empty: none, and no limit from the pod
  std::string alias;  // of the ifb
  uint64_t to_pod_bits = 0;  // a second; 0: no limit
  uint64_t from_pod_bits = 0;
};

tcmsg tc_header(int index, uint32_t handle, uint32_t parent) {
  tcmsg header = {};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = index;
  header.tcm_handle = handle;
  header.tcm_parent = parent;
  return header;
}

void add_bucket(NetlinkRequests* requests, int index, uint64_t bits, const std::string& what) {
  uint64_t rate = bits / 8;
  // Twenty milliseconds at full speed, so that a timer that comes late costs nothing; and some packets at least.
  auto burst = static_cast<uint32_t>(std::clamp<uint64_t>(rate / 50, 32 << 10, 256 << 20));
  tc_tbf_qopt options = {};
  options.rate.rate = static_cast<uint32_t>(std::min<uint64_t>(rate, std::numeric_limits<uint32_t>::max()));
  // What waits longer than a tenth of a second is dropped: TCP learns its speed from that.
  options.limit = static_cast<uint32_t>(std::min<uint64_t>(burst + rate / 10, 1 << 30));
  requests->begin(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, tc_header(index, root_handle, TC_H_ROOT), what);
  requests->attribute(TCA_KIND, std::string_view("tbf"));
  requests->nest(TCA_OPTIONS);
  requests->attribute(TCA_TBF_PARMS, &options, sizeof options);
  requests->attribute(TCA_TBF_BURST, burst);
  requests->attribute(TCA_TBF_RATE64, &rate, sizeof rate);
  requests->end();
}

int make_ifb(NetlinkSocket* socket, const Shape& shape) {
  NetlinkRequests requests;
  requests.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0, true), "create ifb " + shape.ifb);
  requests.attribute(IFLA_IFNAME, std::string_view(shape.ifb));
  requests.nest(IFLA_LINKINFO);
  requests.attribute(IFLA_INFO_KIND, std::string_view("ifb"));
  requests.end();
  // one that is being made takes none
  requests.begin(RTM_SETLINK, 0, link_header(0, false), "name the owner of " + shape.ifb);
  requests.attribute(IFLA_IFNAME, std::string_view(shape.ifb));
  requests.attribute(IFLA_IFALIAS, shape.alias.data(), shape.alias.size());
  socket->run(&requests);
  return index_of(shape.ifb);
}

// All that comes in by the link goes out by the other one, and from there its own way again.
void redirect(NetlinkRequests* requests, int from, int to, const std::string& what) {
  requests->begin(RTM_NEWQDISC, NLM_F_CREATE, tc_header(from, ingress_handle, TC_H_INGRESS), what);
  requests->attribute(TCA_KIND, std::string_view("ingress"));

  tcmsg header = tc_header(from, 0, ingress_handle);
  header.tcm_info = TC_H_MAKE(1U << 16, htons(ETH_P_ALL));
  requests->begin(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, header, what);
  requests->attribute(TCA_KIND, std::string_view("u32"));
  requests->nest(TCA_OPTIONS);
  // one key with an empty mask: it fits everything
  uint8_t everything[sizeof(tc_u32_sel) + sizeof(tc_u32_key)] = {};
  tc_u32_sel selector = {};
  selector.flags = TC_U32_TERMINAL;
  selector.nkeys = 1;
  memcpy(everything, &selector, sizeof selector);
  requests->attribute(TCA_U32_SEL, everything, sizeof everything);
  tc_mirred action = {};
  action.eaction = TCA_EGRESS_REDIR;
  action.action = TC_ACT_STOLEN;
  action.ifindex = static_cast<uint32_t>(to);
  requests->nest(TCA_U32_ACT);
  requests->nest(1);
  requests->attribute(TCA_ACT_KIND, std::string_view("mirred"));
  requests->nest(TCA_ACT_OPTIONS);
  requests->attribute(TCA_MIRRED_PARMS, &action, sizeof action);
  requests->end();
  requests->end();
  requests->end();
  requests->end();
}

void shape_link(const Shape& shape) {
  NetlinkSocket socket;
  int link = index_of(shape.link);
  NetlinkRequests requests;
  if (shape.to_pod_bits > 0) add_bucket(&requests, link, shape.to_pod_bits, "limit what goes to " + shape.link);
  if (shape.from_pod_bits == 0) return socket.run(&requests);
  int ifb = make_ifb(&socket, shape);
  try {
    add_bucket(&requests, ifb, shape.from_pod_bits, "limit what comes from " + shape.link);
    redirect(&requests, link, ifb, "lead what comes from " + shape.link + " through " + shape.ifb);
    socket.run(&requests);
  } catch (const SystemError&) {
    NetlinkRequests undo;
    undo.begin(RTM_DELLINK, 0, link_header(ifb, false), "delete " + shape.ifb);
    socket.run(&undo, {ENODEV});
    throw;
  }
}

Napi::Value shape_link_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  Shape shape;
  shape.link = text_field(options, "link");
  shape.ifb = text_field_or_empty(options, "ifb");
  shape.alias = text_field_or_empty(options, "alias");
  shape.to_pod_bits = static_cast<uint64_t>(int_field_or(options, "toPodBits", 0));
  shape.from_pod_bits = static_cast<uint64_t>(int_field_or(options, "fromPodBits", 0));
  return on_own_thread(info.Env(), [shape]() -> Settle {
    shape_link(shape);
    return settle_nothing();
  });
}

struct Queue {
  int interface = 0;
  std::string kind;
  tc_stats statistics = {};
};

std::vector<Queue> list_queues() {
  NetlinkSocket socket;
  std::vector<Queue> queues;
  NetlinkRequests request;
  request.begin(RTM_GETQDISC, 0, tc_header(0, 0, 0), "list queues");
  socket.dump(&request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWQDISC) return;
    const auto* header = static_cast<const tcmsg*>(NLMSG_DATA(message));
    NetlinkAttributes attributes(TCA_RTA(header), TCA_PAYLOAD(message));
    Queue queue{header->tcm_ifindex, attributes.text(TCA_KIND), {}};
    std::string_view bytes = attributes.bytes(TCA_STATS);
    if (!bytes.empty()) memcpy(&queue.statistics, bytes.data(), std::min(bytes.size(), sizeof queue.statistics));
    queues.push_back(std::move(queue));
  });
  return queues;
}

Napi::Value list_queues_call(const Napi::CallbackInfo& info) {
  int name_space = static_cast<int>(int_field_or(object_argument(info, 0, "options"), "namespaceFd", -1));
  return on_own_thread(info.Env(), [name_space]() -> Settle {
    if (name_space >= 0) enter_network_namespace(name_space);
    auto queues = std::make_shared<std::vector<Queue>>(list_queues());
    return [queues](Napi::Env env) {
      Napi::Array result = Napi::Array::New(env, queues->size());
      for (uint32_t i = 0; i < queues->size(); i++) {
        const auto& [interface, kind, statistics] = (*queues)[i];
        Napi::Object object = Napi::Object::New(env);
        object.Set("interface", interface);
        object.Set("kind", kind);
        object.Set("dropped", statistics.drops);
        object.Set("waitingBytes", statistics.backlog);
        result.Set(i, object);
      }
      return result;
    };
  });
}

}  // namespace

void register_traffic_control(Napi::Object exports) {
  export_function<shape_link_call>(exports, "shapeLink");
  export_function<list_queues_call>(exports, "listQueues");
}

}  // namespace berth
