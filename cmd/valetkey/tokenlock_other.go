//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package main

// lockToken does nothing: the authorization server notices if two processes use one refresh token.
func lockToken(string) (unlock func(), err error) { return func() {}, nil }
