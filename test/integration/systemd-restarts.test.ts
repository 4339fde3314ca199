/** The systemd cgroup driver, beside a real systemd that reloads, is executed anew, loses its bus, kills and tidies up. */
import { checkUnderSystemd } from "../support/systemd.js";

checkUnderSystemd("restart-checks");
