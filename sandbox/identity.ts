/**
 * Who a container's first process is. Names are looked up in the passwd and group files of the container's own root; a
 * number is a number and never looked up as a name.
 */
import type Long from "long";
import { runtime } from "../cri-proto/generated/runtime.js";
import type { ContainerConfig } from "./container.js";
import { InvalidArgumentError, messageOf } from "./errors.js";
import type { OciImageConfig } from "./image-config.js";

const { SupplementalGroupsPolicy } = runtime.v1;

export interface ResolvedUser {
  uid: number;
  gid: number;
  /** ascending, each once, the primary one among them */
  additionalGids: number[];
  /** from passwd; "/" when it does not say */
  home: string;
  /** from passwd; empty: the user has no name there */
  username: string;
}

/** A text file of the container's root; rejects with errnoName ENOENT when it is not there. */
export type ReadRootFile = (path: string) => Promise<string>;

/** 2^32-1 means "leave it" to the kernel. */
const maxId = 0xffff_fffe;

/** NGROUPS_MAX of linux/limits.h */
const maxGroups = 65_536;

const context = "config.linux.security_context";

type SecurityContext = runtime.v1.ILinuxContainerSecurityContext | null | undefined;

interface PasswdEntry {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

interface GroupEntry {
  name: string;
  gid: number;
  members: string[];
}

/** InvalidArgumentError: a user or group that does not exist, a number out of range, fields that exclude each other. */
export async function resolveUser(
  readFile: ReadRootFile,
  { config, image }: { config: ContainerConfig; image: OciImageConfig },
): Promise<ResolvedUser> {
  const asked = askedIdentity(config, image);
  const passwd = parsePasswd(await readOrEmpty(readFile, "/etc/passwd"));
  const entry = findUser(passwd, asked);
  const uid = typeof asked.user === "number" ? asked.user : (entry?.uid ?? 0);

  const strict = isStrict(config.linux?.security_context);
  const needsGroups = typeof asked.group === "string" || (!strict && entry !== undefined);
  const groups = needsGroups ? parseGroup(await readOrEmpty(readFile, "/etc/group")) : [];

  const gid = findGroup(groups, asked) ?? entry?.gid ?? 0;
  // an image's USER with a group has that group alone, as Dockerfiles define it
  const ofImage =
    strict || entry === undefined || asked.groupIsWhole
      ? []
      : groups.filter(({ members }) => members.includes(entry.name)).map((group) => group.gid);
  const all = new Set([gid, ...supplementalGroups(config.linux?.security_context), ...ofImage]);
  if (all.size > maxGroups) {
    throw new InvalidArgumentError(
      `${context}.supplemental_groups: ${all.size} groups with those of the image; a process has ${maxGroups} at most`,
    );
  }
  return {
    uid,
    gid,
    additionalGids: [...all].sort((a, b) => a - b),
    home: entry?.home || "/",
    username: entry?.name ?? "",
  };
}

/** The same rules for who the processes of a pod itself would be. */
export function checkPodIdentity(asked: runtime.v1.ILinuxSandboxSecurityContext): void {
  const { run_as_user: user, run_as_group: group } = asked;
  if (group && !user) throw new InvalidArgumentError(`${context}.run_as_group: it needs run_as_user`);
  if (user) toId(user.value, `${context}.run_as_user`);
  if (group) toId(group.value, `${context}.run_as_group`);
  supplementalGroups(asked);
  isStrict(asked);
}

interface AskedIdentity {
  user: number | string;
  /** where the user was named, for messages */
  userField: string;
  /** a name or number that is in passwd, or the call fails */
  mustExist: boolean;
  group: number | string | undefined;
  groupField: string;
  groupIsWhole: boolean;
}

/** The request's user, else the image's, else root. */
function askedIdentity(config: ContainerConfig, image: OciImageConfig): AskedIdentity {
  const security = config.linux?.security_context;
  const asUser = security?.run_as_user;
  const asName = security?.run_as_username;
  const asGroup = security?.run_as_group;
  if (asUser && asName) {
    throw new InvalidArgumentError(`${context}.run_as_username: run_as_user is set, too; only one of them can be`);
  }
  if (asGroup && !asUser && !asName) {
    throw new InvalidArgumentError(`${context}.run_as_group: it needs run_as_user or run_as_username`);
  }
  const group = asGroup ? toId(asGroup.value, `${context}.run_as_group`) : undefined;
  const groupField = `${context}.run_as_group`;
  if (asUser) {
    const user = toId(asUser.value, `${context}.run_as_user`);
    return { user, userField: `${context}.run_as_user`, mustExist: false, group, groupField, groupIsWhole: false };
  }
  if (asName) {
    const userField = `${context}.run_as_username`;
    return { user: parseId(asName, userField), userField, mustExist: true, group, groupField, groupIsWhole: false };
  }
  return imageIdentity(image.config.User);
}

function imageIdentity(text: string): AskedIdentity {
  const field = "the image's USER";
  const [user = "", group = "", ...rest] = text.split(":");
  if (rest.length > 0) throw new InvalidArgumentError(`${field}: ${JSON.stringify(text)} has more than one colon`);
  return {
    user: user === "" ? 0 : parseId(user, field),
    userField: field,
    mustExist: false,
    group: group === "" ? undefined : parseId(group, field),
    groupField: field,
    groupIsWhole: group !== "",
  };
}

/** Digits alone are a number, however large; everything else is a name. */
function parseId(text: string, field: string): number | string {
  if (!/^[0-9]+$/.test(text)) return text;
  const id = Number(text);
  if (id > maxId) throw new InvalidArgumentError(`${field}: ${text} is greater than the largest id, ${maxId}`);
  return id;
}

function toId(value: Long | null | undefined, field: string): number {
  const id = value?.toNumber() ?? 0;
  if (id < 0 || id > maxId) throw new InvalidArgumentError(`${field}: ${value} is not within 0 and ${maxId}`);
  return id;
}

function supplementalGroups(
  asked: Pick<NonNullable<SecurityContext>, "supplemental_groups"> | null | undefined,
): number[] {
  return (asked?.supplemental_groups ?? []).map((value, index) =>
    toId(value, `${context}.supplemental_groups[${index}]`),
  );
}

function isStrict(asked: Pick<NonNullable<SecurityContext>, "supplemental_groups_policy"> | null | undefined): boolean {
  const policy = asked?.supplemental_groups_policy ?? SupplementalGroupsPolicy.Merge;
  if (SupplementalGroupsPolicy[policy] === undefined) {
    throw new InvalidArgumentError(`${context}.supplemental_groups_policy: ${policy} is neither Merge nor Strict`);
  }
  return policy === SupplementalGroupsPolicy.Strict;
}

function findUser(
  passwd: readonly PasswdEntry[],
  { user, userField, mustExist }: AskedIdentity,
): PasswdEntry | undefined {
  const entry =
    typeof user === "number" ? passwd.find(({ uid }) => uid === user) : passwd.find(({ name }) => name === user);
  if (entry === undefined && (mustExist || typeof user === "string")) {
    throw new InvalidArgumentError(
      `${userField}: there is no user ${JSON.stringify(user)} in the container's /etc/passwd`,
    );
  }
  return entry;
}

function findGroup(groups: readonly GroupEntry[], { group, groupField }: AskedIdentity): number | undefined {
  if (typeof group !== "string") return group;
  const entry = groups.find(({ name }) => name === group);
  if (entry === undefined) {
    throw new InvalidArgumentError(
      `${groupField}: there is no group ${JSON.stringify(group)} in the container's /etc/group`,
    );
  }
  return entry.gid;
}

/** name:password:uid:gid:comment:home:shell; what is no such line is passed over. */
function parsePasswd(text: string): PasswdEntry[] {
  const entries: PasswdEntry[] = [];
  for (const line of text.split("\n")) {
    const [name, , uid, gid, , home] = line.split(":");
    const [uidNumber, gidNumber] = [parseNumber(uid), parseNumber(gid)];
    if (!name || uidNumber === undefined || gidNumber === undefined) continue;
    entries.push({ name, uid: uidNumber, gid: gidNumber, home: (home ?? "").replaceAll("\r", "") });
  }
  return entries;
}

/** name:password:gid:member,member */
function parseGroup(text: string): GroupEntry[] {
  const entries: GroupEntry[] = [];
  for (const line of text.split("\n")) {
    const [name, , gid, members] = line.split(":");
    const gidNumber = parseNumber(gid);
    if (!name || gidNumber === undefined) continue;
    entries.push({ name, gid: gidNumber, members: (members ?? "").trim().split(",") });
  }
  return entries;
}

function parseNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^[0-9]{1,10}$/.test(text)) return undefined;
  const number = Number(text);
  return number <= maxId ? number : undefined;
}

async function readOrEmpty(readFile: ReadRootFile, path: string): Promise<string> {
  try {
    return await readFile(path);
  } catch (error) {
    const name = errnoName(error);
    if (name === "ENOENT" || name === "ENOTDIR") return "";
    throw new InvalidArgumentError(`${path} of the container's root cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function errnoName(error: unknown): unknown {
  return error instanceof Error && "errnoName" in error ? error.errnoName : undefined;
}
