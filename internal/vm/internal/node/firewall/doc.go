// Package firewall keeps guests apart from their host, from other tenants and from each other, as the controller's policy says. It owns
// two nftables tables, "bridge novacron" and "inet novacron", and touches nothing else of the host's firewall.
//
// The bridge table judges every frame at the device of its guest. What a guest sends must bear its own MAC and IP addresses, also in ARP
// and neighbour discovery, and no guest answers for a DHCP server or an IPv6 router. Then the rules of its security groups decide. They
// are stateful by sets of their own, because connection tracking of bridges needs a module that many kernels lack: what a rule lets pass
// is noted in a set of the device, and answers to it pass. A device of ours that has no policy passes nothing.
//
// The inet table judges what leaves the bridges: to the host (DHCP and DNS alone), to other networks (never), to the outside (by the
// network's mode), and from the outside (by the mode, and by port forwards).
//
// Nothing of what tenants name gets into a ruleset: names are made of MAC addresses and ids, and every address is parsed and printed
// anew. A change is one transaction of nft, so that there is no moment without protection, and it touches only what has changed, so that
// the connections of others go on.
package firewall
