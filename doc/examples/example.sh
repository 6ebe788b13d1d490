#!/bin/sh
# An app that keeps its keys in the KMS, on kmsctl(1), which does all that
# doc/guide-apps.md explains and reads KMS_NODE, KMS_RPC, KMS_IDENTITY,
# KMS_NOVA_APP_REGISTRY and KMS_REGISTRY itself. KMSCTL names another kmsctl
# than the one in PATH. Exit status: kmsctl's.
set -u
attempts=3 # of a call that is answered with "later", which is status 4

kms() {
	attempt=1
	while :; do
		"${KMSCTL:-kmsctl}" "$@"
		status=$?
		[ "$status" -eq 4 ] && [ "$attempt" -lt "$attempts" ] ||
		    return "$status"
		sleep "$attempt"
		attempt=$((attempt + 1))
	done
}

# The same bytes from every node, today and next year: into a file that nobody
# else can read, or a pipe; never an argument, which everybody can see.
umask 077
key=$(mktemp) || exit 1
trap 'rm -f "$key"' EXIT
kms derive --raw example/wallet >"$key" || exit
echo "derived example/wallet: 32 bytes, sha256 $(sha256sum "$key" | cut -c1-16)"

# Only status 2 means that there is none. 6 does not: there was a value, and to
# write another over it would lose it.
kms kv get example/greeting >/dev/null
status=$?
case $status in
0) echo "example/greeting is there" ;;
2)
	printf hello | kms kv put --ttl 10m example/greeting >/dev/null || exit
	echo "example/greeting was not there; stored it"
	;;
*) exit "$status" ;;
esac
value=$(kms kv get example/greeting) || exit
echo "example/greeting: $value"
kms kv rm example/greeting >/dev/null || exit
kms kv get example/greeting >/dev/null 2>&1
status=$?
[ "$status" -eq 2 ] || exit "$status"
echo "example/greeting is deleted"
