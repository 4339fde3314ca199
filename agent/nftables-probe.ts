import { native } from "../native/binding.js";

/** Lists the tables: the cheapest thing that needs nftables. Rejects when the kernel has none. */
export function probeNftables(): Promise<string> {
  return native.runNftables(JSON.stringify({ nftables: [{ list: { tables: {} } }] }));
}
