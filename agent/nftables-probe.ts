import { native } from "../native/binding.js";

/** Lists the tables: the cheapest thing that needs nftables. Rejects when the kernel has none. */
export function probeNftables(): Promise<string> {
  return native.runNftables(JSON.stringify({ nftables: [{ list: { tables: {} } }] }));
}

interface Chain {
  family: string;
  table: string;
  name: string;
  hook?: string;
  policy?: string;
}

/** The chains of other programs that drop what is forwarded, unless a rule accepts it: "ip filter FORWARD". */
export async function forwardDrops(): Promise<string[]> {
  const output = await native.runNftables(JSON.stringify({ nftables: [{ list: { chains: {} } }] }));
  const { nftables } = JSON.parse(output) as { nftables: { chain?: Chain }[] };
  return nftables.flatMap(({ chain }) =>
    chain?.hook === "forward" && chain.policy === "drop" ? [`${chain.family} ${chain.table} ${chain.name}`] : [],
  );
}
