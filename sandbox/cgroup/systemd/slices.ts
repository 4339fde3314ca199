/** systemd's slices as cgroup paths: the name alone says where one lies (systemd.slice(5)). */
import { InvalidArgumentError } from "../../errors.js";

const suffix = ".slice";
/** UNIT_NAME_MAX of systemd, without the terminating NUL */
const maxNameBytes = 255;

/**
 * The slice that a cgroup parent names, by its name (`a-b.slice`) or by its whole path (`/a.slice/a-b.slice`), as the
 * kubelet's systemd driver writes it. InvalidArgumentError begins with the field: it is no slice, or lies elsewhere.
 */
export function sliceOfParent(parent: string, field: string): string {
  const names = parent.split("/").filter((name) => name !== "");
  const slice = names.at(-1) ?? "";
  const given = JSON.stringify(parent);
  if (!slice.endsWith(suffix)) {
    throw new InvalidArgumentError(
      `${field}: ${given} is no systemd slice, and this runtime uses the systemd driver (RuntimeConfig tells)`,
    );
  }
  if (!isSliceName(slice))
    throw new InvalidArgumentError(`${field}: ${given} has a name that no systemd slice can have`);
  const path = slicePath(slice);
  if (names.length > 1 && `/${names.join("/")}` !== path) {
    throw new InvalidArgumentError(`${field}: ${given} is not where systemd has ${slice}, which is ${path}`);
  }
  return slice;
}

/** The cgroup path of a slice: `a-b.slice` lies in `a.slice`. The name must be a slice's. */
export function slicePath(slice: string): string {
  const parts = slice.slice(0, -suffix.length).split("-");
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join("-")}${suffix}`).join("");
}

/** `-.slice`, the root, is none that pods can be in. */
function isSliceName(slice: string): boolean {
  if (Buffer.byteLength(slice) > maxNameBytes) return false;
  return /^[A-Za-z0-9:_.\\]+(-[A-Za-z0-9:_.\\]+)*$/.test(slice.slice(0, -suffix.length));
}
