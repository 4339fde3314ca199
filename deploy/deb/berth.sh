#!/bin/sh
# One malloc arena and a small young generation keep the agent's memory small. exec: systemd watches this process.
export MALLOC_ARENA_MAX=1
node=/usr/lib/berth/node
[ -x "$node" ] || node=node
exec "$node" --max-semi-space-size=2 /usr/lib/berth/dist/agent/cli/main.js "$@"
