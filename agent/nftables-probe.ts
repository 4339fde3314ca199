import { native } from "../native/binding.js";

/** Lists the tables: the cheapest thing that needs nftables. Rejects when the kernel has none. */
export function probeNftables(): Promise<string> {
  return native.runNftables(JSON.stringify({ nftables: [{ list: { tables: {} } }] }));
}

interface Listed {
  nftables: {
    chain?: { family: string; table: string; name: string; hook?: string; policy?: string };
    rule?: { expr: Record<string, unknown>[] };
  }[];
}

async function list(what: object): Promise<Listed["nftables"]> {
  const output = await native.runNftables(JSON.stringify({ nftables: [{ list: what }] }));
  return (JSON.parse(output) as Listed).nftables;
}

/**
 * The chains of other programs that drop what is forwarded, unless a rule accepts it: "ip filter FORWARD". By their policy
 * (Docker), or by their last rule (firewalld).
 */
export async function forwardDrops(): Promise<string[]> {
  const chains = (await list({ chains: {} })).flatMap(({ chain }) => (chain?.hook === "forward" ? [chain] : []));
  const drops = await Promise.all(
    chains.map(async ({ family, table, name, policy }) => {
      if (policy === "drop") return true;
      const listed = await list({ chain: { family, table, name } }).catch(() => []);
      return isRefusal(listed.flatMap(({ rule }) => rule ?? []).at(-1)?.expr ?? []);
    }),
  );
  return chains.filter((_, index) => drops[index]).map(({ family, table, name }) => `${family} ${table} ${name}`);
}

/** A rule for all packets that lets none through. */
function isRefusal(expr: readonly Record<string, unknown>[]): boolean {
  const names = expr.flatMap(Object.keys).filter((name) => name !== "counter" && name !== "log");
  return names.length === 1 && ["drop", "reject"].includes(names[0] ?? "");
}
