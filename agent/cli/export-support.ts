import { hostname } from "node:os";
import type { Command } from "commander";

interface Options {
  config?: string;
  log?: string;
  output?: string;
}

export function addTo(parent: Command): void {
  parent
    .command("export-support")
    .description(
      "write an archive for whoever is to help: configuration, versions, the doctor's findings, what the agent tells of " +
        "itself, its log, facts of the kernel; without credentials, environments and annotations of pods",
    )
    .option("--config <FILE>", "the agent's settings")
    .option("--log <FILE>", "the agent's log, where the journal has none")
    .option("-o, --output <FILE>", "not there yet (default: berth-support-HOST-TIME.tar.gz)")
    .action(exportSupport);
}

async function exportSupport({ output, ...options }: Options): Promise<void> {
  const [{ collectSupport }, { blockBytes, padding, tarHeader }, { writeFile }, { gzipSync }] = await Promise.all([
    import("../support/collect.js"),
    import("../images/tar-header.js"),
    import("node:fs/promises"),
    import("node:zlib"),
  ]);
  const name = `berth-support-${hostname().slice(0, 20)}-${new Date().toISOString().replace(/[:.]/g, "-")}`;
  const blocks = (await collectSupport(options)).flatMap((file) => {
    const content = Buffer.from(file.content);
    return [tarHeader(`${name}/${file.name}`, content.length, 0o600), content, padding(content.length)];
  });
  const path = output ?? `${name}.tar.gz`;
  const archive = gzipSync(Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)]));
  await writeFile(path, archive, { mode: 0o600, flag: "wx" });
  process.stdout.write(
    `${path}\nLook into it before you send it: what is secret in a place where nobody expects it is still in it.\n`,
  );
}
