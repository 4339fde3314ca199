/** Names and subnets that no other test of this machine uses at the same time. */
import { fstatSync, mkdirSync, rmdirSync, rmSync, statSync } from "node:fs";
import { isSystemError, native } from "../../native/binding.js";

export interface Slot {
  number: number;
  /** the descriptor that holds the slot; a process that inherits it holds it, too */
  lock: number;
  /** of the agent, or of the network under test */
  bridge: string;
  subnet: string;
  subnet6: string;
  /** another bridge with another subnet: what lies outside of the node */
  outsideBridge: string;
  outsideSubnet: string;
  release(): void;
}

/** Where the slots of this machine are. */
export const slotDirectory = "/run/berth-test";

/** At the same time. */
export const mostSlots = 128;

/** The kernel gives a slot back when the last process that holds it is gone. */
export function claimSlot(): Slot {
  for (let number = 0; number < mostSlots; number++) {
    const path = `${slotDirectory}/slot-${number}`;
    const lock = lockNamed(path);
    if (lock === undefined) continue;
    return {
      number,
      lock,
      bridge: `bt-in-${number}`,
      subnet: `10.244.${number}.0/24`,
      subnet6: `fd00:b:${number.toString(16)}::/64`,
      outsideBridge: `bt-out-${number}`,
      outsideSubnet: `10.245.${number}.0/24`,
      release() {
        rmSync(path, { force: true });
        native.closeDescriptor(lock);
        removeWhenEmpty();
      },
    };
  }
  throw new Error(`all slots in ${slotDirectory} are taken`);
}

/** A lock on the file that has this name; undefined when somebody else has it, or it has just been removed. */
function lockNamed(path: string): number | undefined {
  mkdirSync(slotDirectory, { recursive: true, mode: 0o700 });
  let lock: number;
  try {
    lock = native.lockFile(path);
  } catch (error) {
    // ENOENT: the last holder of another slot has just removed the directory
    if (isSystemError(error) && ["EAGAIN", "ENOENT"].includes(error.errnoName)) return undefined;
    throw error;
  }
  // the holder before may have removed the file between our opening and locking it: such a lock excludes nobody
  if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(lock).ino) return lock;
  native.closeDescriptor(lock);
  return undefined;
}

function removeWhenEmpty(): void {
  try {
    rmdirSync(slotDirectory);
  } catch {
    // others' slots are in it
  }
}
