import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, printJson } from "./output.js";

interface Options extends ClientOptions {
  repair?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("check")
    .description("compare the disk with the store; ends with 1 when something is wrong and not repaired")
    .option("--repair", "remove what is nobody's; a damaged layer goes with its images, which can be pulled again");
  addClientOptions(command).action(check);
}

async function check(options: Options): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("CheckImages", { repair: options.repair ?? false });
    if (options.json) printJson(berth.v1.CheckImagesResponse.toObject(answer, jsonOptions));
    else print(answer);
    if (answer.problems.some(({ repaired }) => !repaired)) process.exitCode = 1;
  });
}

function print({ images, layers, problems }: berth.v1.CheckImagesResponse): void {
  for (const { subject, what, repaired, why_not } of problems) {
    const outcome = repaired ? " (repaired)" : why_not ? ` (not repaired: ${why_not})` : "";
    process.stdout.write(`${subject}: ${what}${outcome}\n`);
  }
  const found = problems.length === 0 ? "nothing is wrong" : `${problems.length} found`;
  process.stdout.write(`${images} images, ${layers} layers: ${found}\n`);
}
