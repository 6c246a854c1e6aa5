//go:build !race

package valetkey

const strangersRequests = 100_000
