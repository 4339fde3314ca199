import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";
import type { ApparmorChoice } from "../spec/apparmor.js";
import type { Apparmor } from "./apparmor.js";

/**
 * The loaded profile that a container's choice means; undefined: unconfined. Where the kernel has no AppArmor, or nobody
 * has loaded what is named, a container that asks for a profile is refused: it would be less confined than it says.
 */
export async function findApparmorProfile(choice: ApparmorChoice, apparmor: Apparmor): Promise<string | undefined> {
  switch (choice.kind) {
    case "unconfined":
      return undefined;
    case "unset":
      return apparmor.defaultProfile();
    case "default": {
      checkEnabled(apparmor, `${choice.field}: RuntimeDefault`);
      const name = await apparmor.defaultProfile();
      if (name !== undefined) return name;
      throw new FailedPreconditionError(`${choice.field}: RuntimeDefault cannot be given: ${apparmor.problem}`);
    }
    case "localhost":
      checkEnabled(apparmor, `${choice.field}: the profile ${JSON.stringify(choice.profile)}`);
      if ((await apparmor.isLoaded(choice.profile)) === false) {
        throw new InvalidArgumentError(
          `${choice.field}: the AppArmor profile ${JSON.stringify(choice.profile)} is not loaded on this node`,
        );
      }
      return choice.profile;
    default:
      return choice satisfies never;
  }
}

function checkEnabled({ enabled }: Apparmor, what: string): void {
  if (!enabled) throw new FailedPreconditionError(`${what} cannot be given: this host's kernel has no AppArmor`);
}
