import assert from "node:assert/strict";
import { test } from "node:test";
import { type MountInfo, parseMountInfo } from "./mount-info.js";
import { findDifference, readTablesOfProcess } from "./propagation.js";
import { reflectedMounts } from "./reflected-mounts.js";

const host = `20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 20 0:50 / /srv/data rw shared:7 - tmpfs tmpfs rw
31 30 0:51 / /srv/data/a rw shared:8 - tmpfs tmpfs rw
32 31 0:52 / /srv/data/a/with\\040blank rw shared:9 - tmpfs tmpfs rw
33 20 0:53 / /srv/other rw shared:10 - tmpfs tmpfs rw
34 30 0:54 / /srv/data/u rw unbindable - tmpfs tmpfs rw
`;
const container = `900 800 0:99 / / rw - overlay overlay rw
910 900 0:50 / /data rw master:7 - tmpfs tmpfs rw
911 910 0:51 / /data/a rw master:8 - tmpfs tmpfs rw
912 911 0:52 / /data/a/with\\040blank rw master:9 - tmpfs tmpfs rw
913 910 0:60 / /data/own rw - tmpfs tmpfs rw
`;

/** The topmost mount at each place. */
function ownMounts(container: readonly MountInfo[], places: readonly string[]): Set<number> {
  const covered = new Set(container.map(({ parent, mountPoint }) => `${parent} ${mountPoint}`));
  const tops = container.filter(
    ({ id, mountPoint }) => places.includes(mountPoint) && !covered.has(`${id} ${mountPoint}`),
  );
  return new Set(tops.map(({ id }) => id));
}

const ownPlaces = ["/data", "/data/own"];

function difference(
  hostText: string,
  containerText: string,
  path = "/srv/data",
  id = 30,
  own: readonly string[] = ownPlaces,
): string | null {
  const mounts = parseMountInfo(hostText);
  const behind = mounts.find((mount) => mount.id === id);
  assert.ok(behind);
  const table = parseMountInfo(containerText);
  const before = [[], parseMountInfo(host)];
  return findDifference({ host: mounts, container: table, behind, path, own: ownMounts(table, own), before });
}

const without = (text: string, id: number) =>
  text
    .split("\n")
    .filter((line) => !line.startsWith(`${id} `))
    .join("\n");

test("the same below on both sides: own mounts and unbindable ones do not count", () => {
  assert.equal(difference(host, container), null);
});

test("an own mount on what the host has mounted there, too: it and what is below it do not count", () => {
  const covering = "920 911 0:51 / /data/a rw - tmpfs tmpfs rw\n921 920 0:70 / /data/a/more rw - tmpfs tmpfs rw\n";
  assert.equal(difference(host, container + covering, "/srv/data", 30, ["/data", "/data/own", "/data/a"]), null);
});

test("what never was on the host is the launcher's, wherever a link has led it", () => {
  const unknown =
    "920 911 0:70 / /data/a/elsewhere rw - tmpfs tmpfs rw\n921 910 8:1 /null /data/masked rw - ext4 x rw\n";
  assert.equal(difference(host, container + unknown), null);
});

test("what came or went on the host while the container was made is found", () => {
  assert.match(difference(host, without(container, 912)) ?? "", /^\/a\/with blank of 0:52:\/ is only on the host$/);
  assert.match(difference(without(host, 32), container) ?? "", /with blank of 0:52:\/ is only in the container/);
  assert.match(difference(host, without(container, 910)) ?? "", /no copy/);
});

test("a mount that follows the host and lies in a bidirectional one is a copy, too", () => {
  const inBidirectional = container.replace("/data rw master:7", "/data rw shared:99 master:7");
  assert.equal(difference(host, inBidirectional), null);
});

test("a directory of a mount: what is mounted beside it does not count", () => {
  const part = "910 900 8:1 /srv /data rw master:1 - ext4 /dev/sda1 rw\n";
  assert.match(difference(host, part, "/srv", 20) ?? "", /\/data of 0:50:\/ is only on the host/);
  assert.equal(difference(host, "910 900 8:1 /etc /data rw master:1 - ext4 /dev/sda1 rw\n", "/etc", 20), null);
});

test("an own mount in a bidirectional one is on the host, too: its image is no difference, its source no image", () => {
  // /srv/other is mounted on /data/a/in, where the host shows it, too
  const both = container.replaceAll("master:", "shared:");
  const inside = "930 911 0:53 / /data/a/in rw - tmpfs tmpfs rw\n";
  const image = "40 31 0:53 / /srv/data/a/in rw shared:11 - tmpfs tmpfs rw\n";
  const own = ["/data", "/data/own", "/data/a/in"];
  assert.equal(difference(host + image, both + inside, "/srv/data", 30, own), null);
  const table = parseMountInfo(both + inside);
  const images = reflectedMounts(parseMountInfo(host + image), table, ownMounts(table, own));
  assert.deepEqual(
    images.map(({ id }) => id),
    [40],
  );
});

test("the mounts of an init that was killed cannot be read: that is the state's fault", async () => {
  const noProcess = 2 ** 22 + 1;
  await assert.rejects(readTablesOfProcess({ own: [], covers: [] }, noProcess), {
    kind: "FAILED_PRECONDITION",
    message: /init was killed/,
  });
});
