# Sourced after lib.sh: a real EVM with the contracts, and nodes on it.
# shellcheck shell=bash
. regress/evm.sh
bash regress/contracts build || fail "the contracts do not build"

# start_evm [anvil's options]: sets RPC; the contracts are deployed and blocks
# are made on demand
start_evm() {
	local port
	port=$(free_port)
	"$EVM_ANVIL" --host 127.0.0.1 --port "$port" --chain-id 31337 "$@" \
	    >"$D/chain.log" 2>&1 &
	CHAIN_PID=$!
	RPC=http://127.0.0.1:$port
	export KMS_RPC=$RPC
	until_true 20 evm_up || fail "anvil does not start"
	evm_deploy || fail "the contracts cannot be deployed"
}

wallet_of() { # FILE
	evm_member "$1" wallet
}

# evm_node_identity NAME INSTANCE URL: $D/NAME.json, registered as a node
evm_node_identity() {
	"$KMSCTL" keygen --out "$D/$1.json" >/dev/null || fail "keygen $1"
	evm_instance "$D/$1.json" "$2" "$EVM_KMS_APP" "$3" || fail "registering $1"
}

# evm_app_identity NAME INSTANCE APP: an app's instance with an app of its own
evm_app_identity() {
	"$KMSCTL" keygen --out "$D/$1.json" >/dev/null || fail "keygen $1"
	evm_app "$3" 0x0000000000000000000000000000000000000000 || fail "app $3"
	evm_instance "$D/$1.json" "$2" "$3" http://127.0.0.1 || fail "registering $1"
}

reason() {
	curl -s -m 5 "$NODE/status" | sed -n 's/^.*"unavailable_reason": *"\([^"]*\)".*$/\1/p'
}

reason_has() {
	reason | grep -q -- "$1"
}

not_ready() {
	[ "$(curl -s -m 5 -o /dev/null -w '%{http_code}' "$NODE/ready")" = 503 ]
}

hash_is_set() {
	[ "$(evm_hash)" != "$EVM_EMPTY_WORD" ]
}

# The MasterSecretHashSet events from block FROM on: how many.
hash_events() {
	evm rpc eth_getLogs "{\"address\":\"$EVM_KMS\",\"fromBlock\":\"$1\",\"topics\":[\"$(evm keccak 'MasterSecretHashSet(bytes32,address)')\"]}" |
	    grep -o '"logIndex"' | wc -l
}
