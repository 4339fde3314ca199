/** The systemd cgroup driver, beside a real systemd: pods in scopes. */
import { checkUnderSystemd } from "../support/systemd.js";

checkUnderSystemd("driver-checks");
