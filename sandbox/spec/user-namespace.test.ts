import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { podConfig, withSecurity } from "./spec-fixtures.js";
import {
  checkContainerUserNamespace,
  checkUserIsMapped,
  mountIdMappings,
  podUserNamespace,
  toHostId,
} from "./user-namespace.js";

const ids = [{ container_id: 0, host_id: 100_000, length: 65_536 }];
const range = { containerID: 0, hostID: 100_000, size: 65_536 };
const pod = (userns_options?: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  podConfig({
    linux: { security_context: { namespace_options: { ...more, ...(userns_options && { userns_options }) } } },
  });
const container = (userns_options: Record<string, unknown>) => withSecurity({ namespace_options: { userns_options } });

test("a pod has the host's unless it asks for its own", () => {
  assert.equal(podUserNamespace(podConfig()), undefined);
  assert.equal(podUserNamespace(pod()), undefined);
  assert.equal(podUserNamespace(pod({ mode: "NODE" })), undefined);
  assert.deepEqual(podUserNamespace(pod({ mode: "POD", uids: ids, gids: ids })), { uids: range, gids: range });
});

test("one run of ids each, with root, within what the kernel counts", () => {
  const last = { container_id: 0, host_id: 0xffff_fffe, length: 1 };
  assert.equal(podUserNamespace(pod({ uids: [last], gids: [last] }))?.uids.hostID, 0xffff_fffe);
  for (const [options, message] of [
    [{}, /userns_options\.uids: there is no mapping/],
    [{ uids: ids }, /userns_options\.gids: there is no mapping/],
    [{ uids: [...ids, ...ids], gids: ids }, /userns_options\.uids: there are 2 mappings/],
    [{ uids: ids, gids: [{ ...ids[0], length: 0 }] }, /userns_options\.gids\[0\]\.length/],
    [{ uids: ids, gids: [{ ...ids[0], container_id: 1 }] }, /userns_options\.gids\[0\]\.container_id/],
    [{ uids: [{ ...last, length: 2 }], gids: ids }, /userns_options\.uids\[0\]\.host_id: 2 ids from 4294967294/],
    [{ mode: "CONTAINER", uids: ids, gids: ids }, /userns_options\.mode: .*CONTAINER/],
    [{ mode: "TARGET", uids: ids, gids: ids }, /userns_options\.mode: .*TARGET/],
    [{ mode: "NODE", gids: ids }, /userns_options\.gids: the mode NODE/],
  ] as const) {
    assert.throws(() => podUserNamespace(pod(options)), { name: "InvalidArgumentError", message });
  }
});

test("the host's network, processes and IPC do not go with it", () => {
  for (const name of ["network", "pid", "ipc"]) {
    assert.throws(() => podUserNamespace(pod({ uids: ids, gids: ids }, { [name]: "NODE" })), {
      name: "InvalidArgumentError",
      message: new RegExp(`namespace_options\\.${name}: a pod with a user namespace`),
    });
  }
});

test("a container says what its pod says, or nothing", () => {
  const own = { uids: ids, gids: ids };
  checkContainerUserNamespace(withSecurity({}), pod(own));
  checkContainerUserNamespace(container(own), pod(own));
  checkContainerUserNamespace(container({ mode: "NODE" }), pod());
  for (const [options, of] of [
    [own, pod()],
    [{ mode: "NODE" }, pod(own)],
    [{ uids: ids, gids: [{ ...ids[0], host_id: 1 }] }, pod(own)],
    [{}, pod(own)],
  ] as const) {
    assert.throws(() => checkContainerUserNamespace(container(options), of), InvalidArgumentError);
  }
});

test("ids inside and outside", () => {
  const users = { uids: { ...range, size: 10 }, gids: { ...range, size: 20 } };
  assert.equal(toHostId(users.uids, 9), 100_009);
  assert.equal(toHostId(users.uids, 10), undefined);
  assert.equal(toHostId({ containerID: 5, hostID: 7, size: 1 }, 4), undefined);
  const user = { uid: 9, gid: 10, additionalGids: [10, 19], home: "/", username: "" };
  checkUserIsMapped(user, users);
  checkUserIsMapped({ ...user, uid: 10 }, undefined);
  assert.throws(() => checkUserIsMapped({ ...user, uid: 10 }, users), /the user 10 is not among the ids 0 to 9 /);
  assert.throws(() => checkUserIsMapped({ ...user, gid: 20 }, users), /the group 20 is not among the ids 0 to 19 /);
  assert.throws(() => checkUserIsMapped({ ...user, additionalGids: [20] }, users), /the group 20/);
});

test("a mount's mappings come together", () => {
  assert.equal(mountIdMappings({}, "m"), undefined);
  assert.equal(mountIdMappings({ uidMappings: [], gidMappings: [] }, "m"), undefined);
  assert.deepEqual(mountIdMappings({ uidMappings: ids, gidMappings: ids }, "m"), { uids: range, gids: range });
  assert.throws(() => mountIdMappings({ uidMappings: ids }, "m"), /^InvalidArgumentError: m\.gidMappings: there is no/);
});
