import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { recentActivity } from "../recent-activity.js";
import type { Runtime } from "../runtime.js";

/** `berth debug events`. */
export function listRecentActivity(runtime: Runtime): proto.v1.IRecentActivity {
  return { json: JSON.stringify(recentActivity(runtime)) };
}
