"""What the tests of attacks share: who stands where, and what is refused."""
import json

import wire
from deployed_peer import DeployedPeer, now_ms
from probe import Refused, check, until

CONF = "replica-timeout 500ms\npeer-blacklist 600s\n"


def refused(statuses, what, function, *args, **more):
    try:
        got = function(*args, **more)
    except Refused as error:
        check(error.status in statuses, what, error)
        return error
    return check(False, what, "was answered:", got)


def insider(cluster, secret=None, **options):
    """A registered peer in the hands of the test; with the cluster's secret
    if not with another."""
    peer = cluster.add_deployed(secret=secret, **options)

    def served():
        try:
            peer.bootstrap(cluster[0].wallet)
        except Refused as error:
            check(error.status in (403, 503), error)
        return peer.secret
    if secret is None:
        until(served, "the secret")
    return peer


def stranger(cluster, name):
    """A node that nobody registered."""
    path = f"{cluster.dir}/{name}.json"
    cluster.kmsctl("keygen", "--out", path)
    with open(path) as f:
        return DeployedPeer(cluster.chain.url, json.load(f))


def forged(peer, name, **members):
    stored = wire.at_rest_seal(wire.data_key(peer.secret, 100),
                               b"of the peer")
    return {"key": name, "value": stored.hex(), "version": {"Peer": 1},
            "updated_at_ms": now_ms(), "tombstone": False, "ttl_ms": 0,
            **members}


def seen_as(node, status):
    """Wallets that /nodes shows so."""
    return {row["instance"]["tee_wallet"].lower()
            for row in node.get("/nodes")[2]["operators"]
            if row["connection"]["cached_status"] == status}
