#!/bin/sh
# Starts the proxy beside whatever the container runs. EXEAT_* variables of the container say how;
# without a policy it is the preset `agent`. What it says is in /tmp/exeat.log, unless EXEAT_START_LOG
# says where; audit records are there too.
log=${EXEAT_START_LOG:-/tmp/exeat.log}
if [ -z "${EXEAT_REQUIREMENTS:-}${EXEAT_PRESET:-}" ] && [ ! -e /etc/codex/requirements.toml ]; then
    export EXEAT_PRESET=agent
fi
exeat serve >>"$log" 2>&1 &
exec "$@"
