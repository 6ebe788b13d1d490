# Sourced, by sh and bash: a real EVM (anvil) with the contracts, for devnet
# and the end-to-end tests. `regress/contracts build` comes first. RPC is the
# endpoint's URL.
# shellcheck shell=sh
EVM_ANVIL=contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil
EVM_CAST=contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast
# anvil's first account owns both contracts; these are its first deployments.
EVM_OWNER=0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266
EVM_APPS=0x5fbdb2315678afecb367f032d93f642f64180aa3
EVM_KMS=0xe7f1725e7734ce288f8367e1bb143e90bb3f0512
EVM_KMS_APP=49
EVM_EMPTY_WORD=0x0000000000000000000000000000000000000000000000000000000000000000

evm() { # cast's arguments
	ETH_RPC_URL=$RPC "$EVM_CAST" "$@"
}

evm_up() {
	evm chain-id >/dev/null 2>&1
}

evm_read() { # CONTRACT SIGNATURE ARGUMENTS…
	evm call "$@"
}

# A transaction of the owner's, mined when this returns.
evm_send() { # CONTRACT SIGNATURE ARGUMENTS…
	evm send --unlocked --from "$EVM_OWNER" --timeout 30 "$@" >/dev/null
}

evm_create() { # NAME ARGUMENTS, as hex
	evm_send --create "$(node -p \
	    "require('./contracts/out/$1.sol/$1.json').bytecode.object")$2"
}

evm_app() { # APP, its contract, as the registry has it
	evm_send "$EVM_APPS" \
	    'setApp((uint256,address,bytes32,address,string,uint256,uint256,uint8,address))' \
	    "($1,$EVM_OWNER,$EVM_EMPTY_WORD,$2,\"\",1,1767225600,0,$EVM_OWNER)" &&
	    evm_send "$EVM_APPS" \
	    'setVersion(uint256,(uint256,string,bytes32,string,string,string,string,uint8,uint256,address))' \
	    "$1" "(1,v1,$EVM_EMPTY_WORD,\"\",\"\",\"\",\"\",0,1767225600,$EVM_OWNER)"
}

# When blocks are made: with each transaction, or every so many seconds.
evm_on_demand() {
	evm rpc evm_setAutomine true >/dev/null
}
evm_every() { # SECONDS
	evm rpc evm_setIntervalMining "$1" >/dev/null
}

# The contracts, and the app of the KMS with its first version. Blocks are made
# on demand from then on.
evm_deploy() {
	evm_on_demand &&
	    evm_create NovaAppRegistry '' &&
	    evm_create KMSRegistry "$(evm abi-encode 'f(address,address)' \
	    "$EVM_OWNER" "$EVM_APPS" | cut -c3-)" &&
	    evm_send "$EVM_KMS" 'setKmsAppId(uint256)' "$EVM_KMS_APP" &&
	    evm_app "$EVM_KMS_APP" "$EVM_KMS"
}

evm_member() { # FILE NAME: a text member of an identity
	sed -n "s/^.*\"$2\": *\"\([^\"]*\)\".*/\1/p" "$1"
}

# An ACTIVE, verified instance with this identity.
evm_instance() { # FILE INSTANCE APP URL
	evm_send "$EVM_APPS" \
	    'setInstance((uint256,uint256,uint256,address,string,bytes,address,bool,uint8,uint256))' \
	    "($2,$3,1,$EVM_OWNER,$4,0x$(evm_member "$1" tee_pubkey),$(evm_member "$1" wallet),true,0,1767225600)"
}

evm_fund() { # WALLET, wei as hex
	evm rpc anvil_setBalance "$1" "$2" >/dev/null
}

evm_hash() {
	evm_read "$EVM_KMS" 'masterSecretHash()(bytes32)'
}
