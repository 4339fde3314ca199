#!/bin/bash
# Puts the monitor of another version where the test of upgrades takes it from:
#   test/old-monitor/make.sh COMMIT
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
commit=$(git -C "$repository" rev-parse --verify "$1^{commit}")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

git -C "$repository" archive "$commit" | tar -x -C "$tree"
# the addon's part of the build looks for headers there
ln -s "$repository/node_modules" "$tree/node_modules"
cmake -S "$tree/native" -B "$tree/build" -DCMAKE_BUILD_TYPE=Release
cmake --build "$tree/build" -j 2 --target berth-monitor

node --input-type=module - "$tree/build/berth-monitor" "$repository/test/old-monitor/berth-monitor.br" <<'END'
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants } from "node:zlib";
const [from, to] = process.argv.slice(2);
const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 };
writeFileSync(to, brotliCompressSync(readFileSync(from), { params }));
END
git -C "$repository" log -1 --date=short --format="%H, of %cd: %s" "$commit" >"$repository/test/old-monitor/COMMIT"
cat "$repository/test/old-monitor/COMMIT"
