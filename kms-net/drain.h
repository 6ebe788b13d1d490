/*
 * The end of kms-net's service: requests of apps that have come are answered,
 * later ones are told 503, every answer closes its connection. The sockets stay
 * open, since peers have still to fetch what is here.
 */
#ifndef KMS_NET_DRAIN_H
#define KMS_NET_DRAIN_H

struct net;

/* KMSDNET_DRAIN. KMS_EPROTO for a second one, KMS_ENOMEM. */
int drain_begin(struct net *net);

#endif
