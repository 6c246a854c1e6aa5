//go:build race

package valetkey

// strangersRequests is smaller with the race detector, which makes requests several times slower.
const strangersRequests = 10_000
