import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type LinkStatistics, type NetworkChange, native, type SetElement, type VethOptions } from "./binding.js";
import { failure, networkNamespace, openDescriptors, run, uniqueName } from "./test-support.js";

// Of this process alone, so that two runs at once do not meet.
const net = `10.${100 + (process.pid % 100)}.${Math.floor(process.pid / 100) % 256}`;
const net6 = `fd00:${(process.pid & 0xffff).toString(16)}`;

async function bridge(t: TestContext): Promise<string> {
  const name = uniqueName("bb");
  t.after(() => native.deleteLink(name));
  await native.ensureBridge({ name, addresses: [`${net}.1/24`, `${net6}::1/64`], mtu: 1400 });
  return name;
}

function veth(bridgeName: string, namespaceFd: number, host: number): VethOptions {
  return {
    namespaceFd,
    bridge: bridgeName,
    hostName: uniqueName("bv"),
    podName: "eth0",
    podMac: `0a:58:00:00:00:0${host}`,
    mtu: 1400,
    addresses: [`${net}.${host}/24`, `${net6}::${host}/64`],
    gateways: [`${net}.1`, `${net6}::1`],
  };
}

const namesOf = (links: LinkStatistics[]) => links.map((link) => link.name);

test("an interface that is made again has another number, and one that has gone has none", async (t) => {
  const name = await bridge(t);
  const first = native.linkIndex(name);
  assert.equal(first, Number(readFileSync(`/sys/class/net/${name}/ifindex`, "utf8")));
  await native.deleteLink(name);
  assert.equal(native.linkIndex(name), 0);
  await native.ensureBridge({ name, addresses: [], mtu: 1400 });
  assert.ok(native.linkIndex(name) > first);
});

test("two pods and the host reach each other through the bridge", async (t) => {
  const name = await bridge(t);
  const [one, two] = [await networkNamespace(t), await networkNamespace(t)];
  const first = veth(name, one.fd, 2);
  await native.attachVeth(first);
  await native.attachVeth(veth(name, two.fd, 3));
  for (const address of [`${net}.1`, `${net}.3`, `${net6}::1`, `${net6}::3`, "127.0.0.1"]) {
    await one.run("busybox", "ping", "-c", "1", "-W", "2", address);
  }
  const addresses = (await native.listAddresses({ namespaceFd: one.fd })).filter((a) => !a.address.startsWith("fe80"));
  assert.deepEqual(
    new Set(addresses.map((a) => `${a.name} ${a.address}`)),
    new Set(["lo 127.0.0.1/8", "lo ::1/128", `eth0 ${net}.2/24`, `eth0 ${net6}::2/64`]),
  );
  const eth0 = (await native.listLinks({ namespaceFd: one.fd })).find((link) => link.name === "eth0");
  assert.ok(eth0 && eth0.rxPackets > 3 && eth0.rxBytes > 300 && eth0.txBytes > 300 && eth0.rxErrors === 0);
  const link = await one.run("busybox", "ip", "link", "show", "eth0");
  assert.match(link, /mtu 1400 .*\n.*0a:58:00:00:00:02/);
  assert.equal(readFileSync(`/sys/class/net/${first.hostName}/brport/hairpin_mode`, "utf8"), "1\n");
  assert.equal(readFileSync(`/sys/class/net/${first.hostName}/mtu`, "utf8"), "1400\n");
});

test("a pod that is attached can send at once: the first packet is not lost while a link comes up", async (t) => {
  const name = await bridge(t);
  for (let host = 10; host < 30; host++) {
    const { fd } = await networkNamespace(t);
    const options = { ...veth(name, fd, host), podMac: `0a:58:00:00:00:${host}` };
    await native.attachVeth(options);
    const of = (file: string) => readFileSync(`/sys/class/net/${options.hostName}/${file}`, "utf8").trim();
    // 3: it forwards
    assert.deepEqual([of("operstate"), of("brport/state")], ["up", "3"]);
  }
});

test("what a pod says of itself is not asked of a thousand others: its link-local address is there, the host's end has none", async (t) => {
  const name = await bridge(t);
  const pod = await networkNamespace(t);
  const options = veth(name, pod.fd, 2);
  await native.attachVeth(options);
  const addresses = await pod.run("busybox", "ip", "address", "show", "eth0");
  assert.match(addresses, /inet6 fe80::858:ff:fe00:2\/64 scope link/);
  assert.doesNotMatch(addresses, /tentative/);
  const own = (await native.listAddresses({})).filter((address) => address.name === options.hostName);
  assert.deepEqual(own, []);
  // a pod may set its link down and up
  await pod.run("busybox", "ip", "link", "set", "eth0", "down");
  await pod.run("busybox", "ip", "link", "set", "eth0", "up");
  const find = async () =>
    (await native.listAddresses({ namespaceFd: pod.fd })).some((a) => a.address.startsWith("fe80"));
  for (const end = Date.now() + 10_000; !(await find()) && Date.now() < end; ) await sleep(20);
  assert.ok(await find());
});

test("a namespace that begins without IPv6 has it when its pod has an address of it; a narrow link has none", async (t) => {
  const name = await bridge(t);
  const turnOff = "for of in all default; do echo 1 > /proc/sys/net/ipv6/conf/$of/disable_ipv6; done";
  for (const [addresses, mtu, expected] of [
    [[`${net}.7/24`], 1400, [`${net}.7/24`]],
    [[`${net}.8/24`, `${net6}::8/64`], 1400, [`${net}.8/24`, `${net6}::8/64`]],
    [[`${net}.9/24`], 900, [`${net}.9/24`]],
  ] as const) {
    const pod = await networkNamespace(t);
    await pod.run("sh", "-c", turnOff);
    await native.attachVeth({ ...veth(name, pod.fd, 7), gateways: [`${net}.1`], addresses: [...addresses], mtu });
    const found = (await native.listAddresses({ namespaceFd: pod.fd })).filter(({ name: of }) => of === "eth0");
    assert.deepEqual(
      found.map(({ address }) => address).filter((address) => !address.startsWith("fe80")),
      expected,
    );
  }
});

test("a bridge is made once and adopted after that", async (t) => {
  const name = await bridge(t);
  const mac = () => readFileSync(`/sys/class/net/${name}/address`, "utf8");
  const before = mac();
  await native.ensureBridge({ name, addresses: [`${net}.1/24`], mtu: 1300 });
  assert.equal(readFileSync(`/sys/class/net/${name}/mtu`, "utf8"), "1300\n");
  const pod = await networkNamespace(t);
  await native.attachVeth(veth(name, pod.fd, 2));
  assert.equal(mac(), before);
  const own = (await native.listAddresses({})).filter((a) => a.name === name && !a.address.startsWith("fe80"));
  assert.deepEqual(
    own.map((a) => a.address),
    [`${net}.1/24`, `${net6}::1/64`],
  );
  await run("ip", "address", "add", `${net6}::9/128`, "dev", name);
  await native.removeOlderAddresses({ bridge: name, wanted: [`${net}.1/24`] });
  const left = (await native.listAddresses({})).filter((a) => a.name === name && !a.address.startsWith("fe80"));
  assert.deepEqual(
    left.map((a) => a.address),
    [`${net}.1/24`, `${net6}::9/128`],
  );
});

test("an interface that is no bridge is not taken for one", async () => {
  const error = await failure(() => native.ensureBridge({ name: "lo", addresses: [], mtu: 1500 }));
  assert.deepEqual([error.errnoName, error.subject], ["EEXIST", "lo"]);
});

test("a bridge that cannot be set up is not left", async () => {
  const name = uniqueName("bb");
  const error = await failure(() => native.ensureBridge({ name, addresses: [], mtu: 70_000 }));
  assert.ok(error.subject.includes(name));
  assert.ok(!namesOf(await native.listLinks({})).includes(name));
});

test("a failing attachment is explained and leaves nothing", async (t) => {
  const name = await bridge(t);
  const pod = await networkNamespace(t);
  const wanted = veth(name, pod.fd, 2);
  const before = openDescriptors();
  const cases: [Partial<VethOptions>, string, RegExp][] = [
    [{ gateways: ["192.0.2.1"] }, "ENETUNREACH", /default route via 192\.0\.2\.1.*invalid gateway/],
    [{ bridge: "nosuchbridge" }, "ENODEV", /nosuchbridge/],
    [{ podMac: "0a:58" }, "EINVAL", /podMac/],
    [{ addresses: ["10.0.0.1"] }, "EINVAL", /addresses.*has no \/length/],
    [{ addresses: ["10.0.0.1/33"] }, "EINVAL", /wrong length/],
    [{ addresses: ["ten/8"] }, "EINVAL", /"ten" is no IP address/],
    [{ hostName: "a-name-that-is-too-long" }, "EINVAL", /hostName/],
    [{ namespaceFd: 0 }, "EINVAL", /create veth/],
  ];
  for (const [change, errnoName, message] of cases) {
    const error = await failure(() => native.attachVeth({ ...wanted, ...change }));
    assert.equal(error.errnoName, errnoName, error.message);
    assert.match(error.message, message);
    assert.deepEqual(namesOf(await native.listLinks({ namespaceFd: pod.fd })), ["lo"]);
    assert.ok(!namesOf(await native.listLinks({})).includes(wanted.hostName));
  }
  assert.equal(openDescriptors(), before);
  await native.attachVeth(wanted);
  assert.equal((await failure(() => native.attachVeth(wanted))).errnoName, "EEXIST");
  await native.deleteLink(wanted.hostName);
  await native.deleteLink(wanted.hostName);
  assert.deepEqual(namesOf(await native.listLinks({ namespaceFd: pod.fd })), ["lo"]);
});

test("loopback is set up in a namespace, and the agent stays in its own", async (t) => {
  const pod = await networkNamespace(t);
  const name = await bridge(t);
  await native.setLoopbackUp(pod.fd);
  await pod.run("busybox", "ping", "-c", "1", "-W", "2", "127.0.0.1");
  assert.ok(namesOf(await native.listLinks({})).includes(name));
  assert.deepEqual(namesOf(await native.listLinks({ namespaceFd: pod.fd })), ["lo"]);
  assert.equal((await failure(() => native.setLoopbackUp(0))).syscall, "setns");
});

test("the watch tells what others take from its table, and not what is taken through the addon; links that go", async (t) => {
  const [table, other] = [uniqueName("berth_test_"), uniqueName("berth_test_")];
  const changes: string[] = [];
  const tell = ({ kind, name }: NetworkChange) => changes.push(`${kind} ${name}`);
  const watches = [table, other].map((name) => native.watchNetwork({ bridge: "none", table: name }, tell));
  t.after(() => {
    for (const watch of watches) watch.close();
  });
  const told = async (change: string) => {
    for (const end = Date.now() + 10_000; !changes.includes(change); await sleep(10)) {
      assert.ok(Date.now() < end, `"${change}" is not among ${JSON.stringify(changes)}`);
    }
  };
  const own = (verb: "add" | "delete", name: string) =>
    native.runNftables(JSON.stringify({ nftables: [{ [verb]: { table: { family: "inet", name } } }] }));
  await own("add", table);
  await own("delete", table);
  await own("add", table);
  await run("nft", "add", "set", "inet", table, "ports", "{ type inet_service; }");
  const elements = [{ set: "ports", key: Buffer.from([0, 80]) }];
  for (const remove of [false, true]) await native.changeSetElements({ table, remove, elements });
  await run("nft", "add", "table", "inet", other);
  await run("nft", "delete", "table", "inet", other);
  await told(`table-changed ${other}`);
  // the watch of this one was told before
  assert.ok(!changes.includes(`table-changed ${table}`));
  await run("nft", "delete", "table", "inet", table);
  await told(`table-changed ${table}`);
  const name = uniqueName("bb");
  await native.ensureBridge({ name, addresses: [], mtu: 1500 });
  await native.deleteLink(name);
  await told(`link-gone ${name}`);
});

test("the watch tells that its bridge is set down, and not that it is made", async (t) => {
  const [name, marker] = [uniqueName("bb"), uniqueName("bb")];
  const changes: string[] = [];
  const tell = ({ kind, name: of }: NetworkChange) => changes.push(`${kind} ${of}`);
  const watch = native.watchNetwork({ bridge: name, table: uniqueName("berth_test_") }, tell);
  t.after(async () => {
    watch.close();
    await native.deleteLink(name);
  });
  const told = async (change: string) => {
    for (const end = Date.now() + 10_000; !changes.includes(change); await sleep(10)) {
      assert.ok(Date.now() < end, `"${change}" is not among ${JSON.stringify(changes)}`);
    }
  };
  await native.ensureBridge({ name, addresses: [`${net}.1/24`], mtu: 1400 });
  await native.ensureBridge({ name: marker, addresses: [], mtu: 1500 });
  await native.deleteLink(marker);
  await told(`link-gone ${marker}`);
  assert.ok(!changes.includes(`link-down ${name}`));
  await run("busybox", "ip", "address", "add", `${net}.9/24`, "dev", name);
  await run("busybox", "ip", "address", "del", `${net}.9/24`, "dev", name);
  await told(`address-gone ${net}.9/24`);
  await run("busybox", "ip", "link", "set", "down", "dev", name);
  await told(`link-down ${name}`);
});

test("nftables: a transaction, its listing, and what the kernel refuses", async (t) => {
  const name = uniqueName("berth_test_");
  const table = { family: "ip", name };
  const execute = (...commands: object[]) => native.runNftables(JSON.stringify({ nftables: commands }));
  t.after(() => execute({ add: { table } }, { delete: { table } }));
  const chain = {
    family: "ip",
    table: name,
    name: "post",
    type: "nat",
    hook: "postrouting",
    prio: 100,
    policy: "accept",
  };
  assert.equal(await execute({ add: { table } }, { add: { chain } }), "");
  const listing = JSON.parse(await execute({ list: { table } })) as { nftables: { chain?: { name: string } }[] };
  assert.deepEqual(
    listing.nftables.flatMap((item) => item.chain?.name ?? []),
    ["post"],
  );
  // All or nothing: the second command's failure takes the first with it.
  const map = { family: "ip", table: name, name: "m", type: "ipv4_addr", map: "verdict" };
  const error = await failure(() => execute({ add: { map } }, { delete: { chain: { ...chain, name: "none" } } }));
  assert.equal(error.errnoName, "ENOENT");
  assert.doesNotMatch(await execute({ list: { table } }), /"map"/);
  const bad = await failure(() => execute({ frobnicate: { table } }));
  assert.equal(bad.errnoName, "EINVAL");
  assert.throws(() => native.runNftables("list ruleset"), TypeError);
});

test("elements of nftables: added and removed all or none, as nft lists them", async (t) => {
  const table = uniqueName("berth_test_");
  await run(
    "nft",
    `table inet ${table} { map m { type inet_proto . inet_service : ipv4_addr; }; set s { type inet_service; }; }`,
  );
  t.after(() => run("nft", "delete", "table", "inet", table));
  const port = Buffer.from([0, 80]);
  const entry = (last: number) => ({
    set: "m",
    key: Buffer.from([6, 0, 0, 0, ...port, 0, 0]),
    value: Buffer.from([10, 0, 0, last]),
  });
  const change = (remove: boolean, ...elements: SetElement[]) => native.changeSetElements({ table, remove, elements });
  const listed = async () => {
    const text = await run("nft", "list", "table", "inet", table);
    return [...text.matchAll(/elements = \{ (.*) \}/g)].map(([, elements]) => elements);
  };
  const both = [entry(1), { set: "s", key: port }];
  await change(false, ...both);
  await change(false, ...both);
  assert.deepEqual(await listed(), ["tcp . 80 : 10.0.0.1", "80"]);
  const other = await failure(() => change(false, { set: "s", key: Buffer.from([0, 81]) }, entry(2)));
  assert.deepEqual([other.errnoName, other.subject], ["EEXIST", `set m of table ${table}`]);
  assert.deepEqual(await listed(), ["tcp . 80 : 10.0.0.1", "80"]);
  await change(true, ...both);
  await change(true, ...both);
  assert.deepEqual(await listed(), []);
  const none = await failure(() => change(false, { set: "none", key: port }));
  assert.equal(none.errnoName, "ENOENT");
  await change(true);
});
