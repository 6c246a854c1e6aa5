package ratelimit

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// Key identifies what events are counted for. It is the hash of its parts, so that it has a fixed
// size and reveals nothing about them where it is stored.
type Key [sha256.Size]byte

// NewKey returns the key of a sequence of parts. Different sequences have different keys.
func NewKey(parts ...string) Key {
	h := sha256.New()
	var length [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	var key Key
	h.Sum(key[:0])
	return key
}

// nat64 is the prefix under which hosts without IPv4 see IPv4 addresses (RFC 6052, section
// 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// Network returns the part of an address that belongs to one party: a whole IPv4 address, or the
// /64 of an IPv6 address, because a host chooses the rest freely.
func Network(address netip.Addr) string {
	address = address.Unmap().WithZone("")
	if !address.Is6() {
		return address.String()
	}
	if nat64.Contains(address) {
		bytes := address.As16()
		return netip.AddrFrom4([4]byte(bytes[12:])).String()
	}
	return netip.PrefixFrom(address, 64).Masked().String()
}
