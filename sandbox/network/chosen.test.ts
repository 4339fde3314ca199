import assert from "node:assert/strict";
import { test } from "node:test";
import { Observer } from "../observer.js";
import { ChosenNetwork } from "./chosen.js";

/** Of "auto", beside what the directory of configurations is said to be: only what the choice needs. */
function chosenAt(start: { may: boolean; shows: boolean }) {
  const directory = { ...start };
  const provider = (name: string) => ({ name, start: async () => undefined });
  const providers = {
    builtin: provider("builtin"),
    none: provider("none"),
    cni: { ...provider("cni"), isConfigured: () => directory.may, showsConfiguration: () => directory.shows },
  };
  const network = new ChosenNetwork(
    "auto",
    providers as unknown as ConstructorParameters<typeof ChosenNetwork>[1],
    new Observer(),
  );
  return { network, directory };
}

test("CNI's network counts from the first configuration on that is seen", () => {
  const { network, directory } = chosenAt({ may: false, shows: false });
  assert.equal(network.name, "builtin");
  Object.assign(directory, { may: true, shows: true });
  assert.equal(network.name, "cni");
  Object.assign(directory, { may: false, shows: false });
  assert.equal(network.name, "cni");
});

test("a directory that cannot be read for a moment changes nothing, and at the start no pod is put on the built-in one", () => {
  const { network, directory } = chosenAt({ may: false, shows: false });
  directory.may = true;
  assert.equal(network.name, "builtin");
  assert.equal(chosenAt({ may: true, shows: false }).network.name, "cni");
});
