/**
 * The program of a test: attaches a pod to the built-in network and waits to be killed.
 * Its lease is on standard output before anything is made.
 */
import { native } from "../../native/binding.js";
import { BuiltinNetwork } from "../../sandbox/network/builtin.js";
import { Observer } from "../../sandbox/observer.js";

const [bridge = "", subnets = "", podId = "", namespace = "", positionsPath = ""] = process.argv.slice(2);
const network = new BuiltinNetwork({
  addon: native,
  bridge,
  run: "/nonexistent",
  namespaceOf: () => "/nonexistent",
  subnets: subnets.split(","),
  cidrPath: "/nonexistent/cidr",
  positionsPath,
  observer: new Observer(),
});
await network.start();
const namespaceFd = native.openPath(namespace);
const lease = network.reserve(podId, [{ protocol: "tcp", containerPort: 80, hostPort: 31999, hostIp: "" }]);
process.stdout.write(JSON.stringify(lease));
await network.attach(podId, lease, { namespaceFd });
setInterval(() => {}, 1000);
