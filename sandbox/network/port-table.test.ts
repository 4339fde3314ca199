import assert from "node:assert/strict";
import { test } from "node:test";
import { PortTable } from "./port-table.js";

const ports = (protocol: "tcp" | "udp") => ({
  addresses: ["10.88.0.5"],
  portMappings: [{ protocol, hostPort: 53, containerPort: 5353, hostIp: "" }],
});

test("flows are forgotten for UDP ports alone, and a kernel that cannot keeps no port back", async () => {
  const asked: unknown[] = [];
  const troubles: unknown[] = [];
  const changes: [remove: boolean, elements: number][] = [];
  const table = new PortTable({
    addon: {
      runNftables: () => Promise.reject(new Error("the table is not written whole")),
      changeSetElements: async ({ remove, elements }) => void changes.push([remove, elements.length]),
      forgetUdpFlows: async (options) => {
        asked.push(options);
        throw new Error("no ctnetlink");
      },
    },
    bridge: "berth0",
    isOurs: () => true,
    subnets: () => ["10.88.0.0/16"],
    onTrouble: (error) => troubles.push(error),
  });
  await table.publish("a", ports("tcp"));
  assert.deepEqual(asked, []);
  await table.publish("b", ports("udp"));
  await table.unpublish("b");
  assert.deepEqual(asked, Array(2).fill({ ports: ["53"], addresses: ["10.88.0.5"] }));
  assert.equal(troubles.length, 2);
  assert.deepEqual(changes, [
    [false, 3],
    [false, 3],
    [true, 3],
  ]);
});
