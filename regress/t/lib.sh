# Sourced by end-to-end tests: a chain, a node, and what they need. O is the
# build directory. With KMS_TEST_IDENTITY=capsule the node's keys are in
# simcapsule. Everything runs on free ports of the loopback, below one temporary
# directory, and is gone when the test ends.
# shellcheck shell=bash
set -u
O=${O:-build/gcc}
KMSCTL=$O/bin/kmsctl
IDENTITY=${KMS_TEST_IDENTITY:-local}
unset KMS_TEST_IDENTITY # kmsd knows no such keyword
D=$(mktemp -d "${TMPDIR:-/tmp}/kms-test.XXXXXX") || exit 1
CHAIN_PID='' NODE_PID='' TAMPER_PID='' CAPSULE_PID=''

cleanup() {
	local status=$?
	trap - EXIT
	[ -n "$NODE_PID" ] && kill -TERM "$NODE_PID" 2>/dev/null
	[ -n "$CHAIN_PID" ] && kill -TERM "$CHAIN_PID" 2>/dev/null
	[ -n "$TAMPER_PID" ] && kill -TERM "$TAMPER_PID" 2>/dev/null
	[ -n "$CAPSULE_PID" ] && kill -TERM "$CAPSULE_PID" 2>/dev/null
	if [ "$status" -ne 0 ]; then
		echo "---- node log"
		tail -n 60 "$D/node.log" 2>/dev/null
		echo "---- chain log"
		tail -n 10 "$D/chain.log" 2>/dev/null
	fi
	wait 2>/dev/null
	rm -rf "$D"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
	echo "FAIL: $*"
	exit 1
}

# expect NAME EXPECTED GOT
expect() {
	[ "$2" = "$3" ] || fail "$1: expected \"$2\", got \"$3\""
}

# until_true SECONDS COMMAND…: wait for a condition, bounded.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

free_port() {
	python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_chain [simchain options]: sets RPC
start_chain() {
	"$O/tools/simchain" --listen 127.0.0.1:0 "$@" \
	    regress/tools/state-sample.json >"$D/chain.log" 2>&1 &
	CHAIN_PID=$!
	until_true 10 grep -q 'listening on' "$D/chain.log" || fail "simchain does not start"
	RPC=$(sed -n 's/.*listening on \(http:[^,]*\),.*/\1/p' "$D/chain.log")
	export KMS_RPC=$RPC
}

# rpc METHOD PARAMS: the raw JSON answer
rpc() {
	curl -s -m 10 -H 'Content-Type: application/json' -d \
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":${2:-[]}}" "$RPC"
}

# write_conf: $D/kmsd.conf; further lines come on standard input
write_conf() {
	PORT=${PORT:-$(free_port)}
	NODE=http://127.0.0.1:$PORT
	export KMS_NODE=$NODE
	cat >"$D/kmsd.conf" <<CONF
listen 127.0.0.1:$PORT
environment development
identity local $D/node.json
kms-app-id 49
chain-id 31337
nova-app-registry 0x5fbdb2315678afecb367f032d93f642f64180aa3
kms-registry 0xe7f1725e7734ce288f8367e1bb143e90bb3f0512
rpc-url $RPC
nonce-rate 0
request-rate 0
CONF
	cat >>"$D/kmsd.conf"
}

# start_capsule: simcapsule with the node's keys, and the node told to use it
start_capsule() {
	[ -z "$CAPSULE_PID" ] || return 0
	regress/tools/simcapsule "$D/node.json" >"$D/capsule.log" 2>&1 &
	CAPSULE_PID=$!
	until_true 10 grep -q 'listening on' "$D/capsule.log" || fail "simcapsule does not start"
	CAPSULE=$(sed -n 's/listening on \([^,]*\),.*/\1/p' "$D/capsule.log")
	sed -i "s|^identity local $D/node.json$|identity capsule $CAPSULE|" "$D/kmsd.conf"
}

# start_kmsd: with $D/kmsd.conf, without waiting
start_kmsd() {
	${KMSD_WRAP:-} "$O/bin/kmsd" ${KMSD_OPTIONS:-} -f "$D/kmsd.conf" >>"$D/node.log" 2>&1 &
	NODE_PID=$!
}

ready() {
	"$KMSCTL" ready
}

ready_or_dead() {
	ready || ! kill -0 "$NODE_PID"
}

# start_node [extra conf lines on stdin with -]: identity, registration, node
start_node() {
	if [ "${1:-}" = - ]; then write_conf; else write_conf </dev/null; fi
	if [ ! -e "$D/node.json" ]; then
		"$KMSCTL" keygen --out "$D/node.json" >/dev/null || fail "keygen"
		"$KMSCTL" --identity "$D/node.json" sim register --app 49 --url "$NODE" >/dev/null ||
		    fail "registering the node"
	fi
	[ "$IDENTITY" = local ] || start_capsule
	start_kmsd
	until_true "${READY_SECONDS:-15}" ready_or_dead || fail "the node does not become ready"
	kill -0 "$NODE_PID" 2>/dev/null || fail "kmsd ended"
}

# new_app ID NAME: an app identity $D/NAME.json registered under app ID
new_app() {
	"$KMSCTL" keygen --out "$D/$2.json" >/dev/null || fail "keygen $2"
	"$KMSCTL" --identity "$D/$2.json" sim register --app "$1" >/dev/null || fail "registering $2"
}

# as NAME ARGS…: kmsctl with that app's identity
as() {
	local name=$1
	shift
	"$KMSCTL" --identity "$D/$name.json" "$@"
}

# start_tamper: what clients reach by KMS_NODE from now on is a proxy that lies
# about $NODE as tamper says
start_tamper() {
	tamper pass
	/usr/bin/python3 regress/tools/tamper.py "$NODE" "$D" 2>"$D/proxy.log" &
	TAMPER_PID=$!
	until_true 10 test -e "$D/port" || fail "the proxy does not start: $(cat "$D/proxy.log")"
	export KMS_NODE
	KMS_NODE=http://127.0.0.1:$(cat "$D/port")
}

# tamper MODE
tamper() {
	echo "$1" >"$D/mode"
}

stop_node() {
	kill -TERM "$NODE_PID" 2>/dev/null
	wait "$NODE_PID" 2>/dev/null
	NODE_PID=''
}

# children of kmsd by program name
child_pid() {
	pgrep -P "$NODE_PID" -f "$1" | head -n 1
}
