// Elements of sets and maps of nftables, by netlink itself: libnftables lists the tables and all elements of the maps before
// each change, which costs a millisecond, and more with each pod.
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/netlink_socket.h"
#include "addon/nftables.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

struct Element {
  std::string set;
  std::vector<uint8_t> key;
  std::vector<uint8_t> value;  // empty: of a set
};

struct Change {
  std::string table;
  bool removes = false;
  std::vector<Element> elements;
};

std::atomic<uint32_t> own_port = 0;

nfgenmsg header_of(uint8_t family, uint16_t resource) {
  nfgenmsg header = {};
  header.nfgen_family = family;
  header.version = NFNETLINK_V0;
  header.res_id = htons(resource);
  return header;
}

void append_value(NetlinkRequests* batch, uint16_t type, const std::vector<uint8_t>& bytes) {
  batch->nest(type);
  batch->attribute(NFTA_DATA_VALUE, bytes.data(), bytes.size());
  batch->end();
}

void append_elements(NetlinkRequests* batch, int message, uint16_t flags, const Change& change) {
  auto type = static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
  for (const Element& element : change.elements) {
    batch->begin(type, flags, header_of(NFPROTO_INET, 0), "set " + element.set + " of table " + change.table);
    batch->attribute(NFTA_SET_ELEM_LIST_TABLE, std::string_view(change.table));
    batch->attribute(NFTA_SET_ELEM_LIST_SET, std::string_view(element.set));
    batch->nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    batch->nest(NFTA_LIST_ELEM);
    append_value(batch, NFTA_SET_ELEM_KEY, element.key);
    if (!element.value.empty()) append_value(batch, NFTA_SET_ELEM_DATA, element.value);
    batch->end();
    batch->end();
  }
}

void run(const Change& change) {
  static std::mutex mutex;
  // For life: closing it after a change waits for the kernel.
  static std::unique_ptr<NetlinkSocket>& socket = *new std::unique_ptr<NetlinkSocket>();
  NetlinkRequests batch;
  batch.begin(NFNL_MSG_BATCH_BEGIN, 0, header_of(AF_UNSPEC, NFNL_SUBSYS_NFTABLES), "begin");
  append_elements(&batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, change);
  // What is not there could not be removed: so it was added first.
  if (change.removes) append_elements(&batch, NFT_MSG_DELSETELEM, 0, change);
  batch.begin(NFNL_MSG_BATCH_END, 0, header_of(AF_UNSPEC, NFNL_SUBSYS_NFTABLES), "end");
  std::lock_guard lock(mutex);
  if (socket == nullptr) {
    socket = std::make_unique<NetlinkSocket>(NETLINK_NETFILTER);
    own_port = socket->port();
  }
  socket->run_batch(&batch);
}

std::vector<uint8_t> bytes_field(const Napi::Object& object, const char* name) {
  Napi::Value value = object.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(object.Env(), std::string(name) + " must be a Uint8Array");
  }
  auto bytes = value.As<Napi::Uint8Array>();
  return {bytes.Data(), bytes.Data() + bytes.ByteLength()};
}

Napi::Value change_set_elements(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  Change change;
  change.table = text_field(options, "table");
  change.removes = bool_field(options, "remove");
  auto elements = options.Get("elements").As<Napi::Array>();
  for (uint32_t i = 0; i < elements.Length(); i++) {
    auto object = elements.Get(i).As<Napi::Object>();
    Element element{text_field(object, "set"), bytes_field(object, "key"), {}};
    if (has_field(object, "value")) element.value = bytes_field(object, "value");
    change.elements.push_back(std::move(element));
  }
  return on_own_thread(info.Env(), [change = std::move(change)]() -> Settle {
    run(change);
    return settle_nothing();
  });
}

}  // namespace

bool is_own_elements_port(uint32_t port) { return port != 0 && port == own_port; }

void register_nft_elements(Napi::Object exports) { export_function<change_set_elements>(exports, "changeSetElements"); }

}  // namespace berth
