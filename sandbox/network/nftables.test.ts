import assert from "node:assert/strict";
import { test } from "node:test";
import { portRules, removeTableDocument, tableDocument } from "./nftables.js";

interface Document {
  nftables: Record<string, Record<string, Record<string, unknown>>>[];
}

function commands(json: string): string[] {
  return (JSON.parse(json) as Document).nftables.map((command) => {
    const [verb = ""] = Object.keys(command);
    const [object = ""] = Object.keys(command[verb] ?? {});
    const { name, chain, elem } = command[verb]?.[object] ?? {};
    return [verb, object, name ?? chain, elem === undefined ? "" : JSON.stringify(elem)].join(" ").trim();
  });
}

const ports = {
  addresses: ["10.88.0.5", "fd00::5"],
  portMappings: [
    { protocol: "tcp" as const, hostPort: 8080, containerPort: 80, hostIp: "" },
    { protocol: "udp" as const, hostPort: 53, containerPort: 5353, hostIp: "127.0.0.1" },
  ],
};

const elements = [
  'add element any_address4 [[{"concat":["tcp",8080]},"10.88.0.5"]]',
  'add element any_port4 [[{"concat":["tcp",8080]},80]]',
  'add element hairpin4 [{"concat":["10.88.0.5","tcp",80]}]',
  'add element bound_address4 [[{"concat":["127.0.0.1","udp",53]},"10.88.0.5"]]',
  'add element bound_port4 [[{"concat":["127.0.0.1","udp",53]},5353]]',
  'add element hairpin4 [{"concat":["10.88.0.5","udp",5353]}]',
  'add element any_address6 [[{"concat":["tcp",8080]},"fd00::5"]]',
  'add element any_port6 [[{"concat":["tcp",8080]},80]]',
  'add element hairpin6 [{"concat":["fd00::5","tcp",80]}]',
];

test("the table's document replaces rules, subnets and ports", () => {
  const lines = commands(tableDocument("berth0", ["10.88.0.0/16", "fd00::/64"], [ports]));
  const name = "berth_berth0";
  assert.deepEqual(lines.slice(0, 3), [`add table ${name}`, `delete table ${name}`, `add table ${name}`]);
  assert.ok(lines.includes("add rule postrouting"));
  assert.deepEqual(
    lines.filter((line) => line.includes("subnets4")),
    ["add set subnets4", 'add element subnets4 [{"prefix":{"addr":"10.88.0.0","len":16}}]'],
  );
  assert.deepEqual(lines.slice(-9), elements);
});

test("every object is in the bridge's own table", () => {
  for (const json of [tableDocument("br-1", ["10.88.0.0/16"], [ports]), removeTableDocument("br-1")]) {
    for (const command of (JSON.parse(json) as Document).nftables) {
      for (const object of Object.values(command).flatMap((objects) => Object.entries(objects))) {
        assert.equal(object[1]["family"], "inet");
        assert.equal(object[0] === "table" ? object[1]["name"] : object[1]["table"], "berth_br-1");
      }
    }
  }
});

test("a port's rule is installed when all that it needs is listed", () => {
  const listed = (JSON.parse(tableDocument("b", [], [ports])) as Document).nftables.flatMap(
    (command) => (command["add"]?.["element"] as unknown as { name: string; elem: unknown[] }) ?? [],
  );
  const rules = (some: typeof listed) =>
    portRules(ports, { nftables: some.map(({ name, elem }) => ({ map: { name, elem } })) });
  assert.deepEqual(rules(listed), [
    { rule: "tcp *:8080 to 10.88.0.5:80", installed: true },
    { rule: "udp 127.0.0.1:53 to 10.88.0.5:5353", installed: true },
    { rule: "tcp *:8080 to [fd00::5]:80", installed: true },
  ]);
  assert.deepEqual(
    rules(listed.filter(({ name }) => name !== "hairpin4")).map(({ installed }) => installed),
    [false, false, true],
  );
});
