#include "kmsd/topology.h"

const struct role_row roles[ROLES] = {
	[ROLE_NET] = { "net", "kms-net", "kms-net", "_kms-net", 64101,
	    METRICS_SLOT_net },
	[ROLE_KEEPER] = { "keeper", "kms-keeper", "kms-keeper", "_kms-keeper",
	    64102, METRICS_SLOT_keeper },
	[ROLE_RPC] = { "rpc", "kms-chain", "kms-chain-rpc", "_kms-rpc", 64103,
	    METRICS_SLOT_rpc },
	[ROLE_PEER] = { "peer", "kms-chain", "kms-chain-peer", "_kms-peer",
	    64104, METRICS_SLOT_peer },
};

const struct channel_row channels[] = {
	{ ROLE_NET, CHANNEL_NET },
	{ ROLE_RPC, CHANNEL_RPC },
	{ ROLE_PEER, CHANNEL_PEER },
};
const size_t channel_count = sizeof(channels) / sizeof(channels[0]);

const struct channel_row *
topology_channel(enum role role)
{
	for (size_t i = 0; i < channel_count; i++) {
		if (channels[i].role == role)
			return &channels[i];
	}
	return NULL;
}
