/** The program of a test: starts the built-in network on the bridge and the subnet of its arguments, and prints its status. */
import { native } from "../../native/binding.js";
import { BuiltinNetwork } from "../../sandbox/network/builtin.js";
import { Observer } from "../../sandbox/observer.js";

const [bridge = "", subnet = ""] = process.argv.slice(2);
const network = new BuiltinNetwork({
  addon: native,
  bridge,
  run: "/nonexistent",
  namespaceOf: () => "/nonexistent",
  subnets: [subnet],
  cidrPath: "/nonexistent/cidr",
  positionsPath: "/nonexistent/positions",
  observer: new Observer(),
});
await network.start();
process.stdout.write(JSON.stringify(await network.status()));
network.close();
