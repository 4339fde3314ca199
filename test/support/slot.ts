/** Names and subnets that no other test of this machine uses at the same time. */
import { mkdirSync } from "node:fs";
import { native } from "../../native/binding.js";

export interface Slot {
  number: number;
  /** of the agent, or of the network under test */
  bridge: string;
  subnet: string;
  subnet6: string;
  /** another bridge with another subnet: what lies outside of the node */
  outsideBridge: string;
  outsideSubnet: string;
  release(): void;
}

const directory = "/run/berth-test";

/** The kernel gives a slot back when the process that holds it dies. */
export function claimSlot(): Slot {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (let number = 0; number < 128; number++) {
    let lock: number;
    try {
      lock = native.lockFile(`${directory}/slot-${number}`);
    } catch {
      continue;
    }
    return {
      number,
      bridge: `bt-in-${number}`,
      subnet: `10.244.${number}.0/24`,
      subnet6: `fd00:b:${number.toString(16)}::/64`,
      outsideBridge: `bt-out-${number}`,
      outsideSubnet: `10.245.${number}.0/24`,
      release: () => native.closeDescriptor(lock),
    };
  }
  throw new Error(`all slots in ${directory} are taken`);
}
