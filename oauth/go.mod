// What applications and APIs import: package oauth, and jose, client and resourceserver
// below it. It is a module of its own, so that importing them adds no database driver and
// nothing else of the server to an application's module graph.
module github.com/valetkey/valetkey/oauth

go 1.26.0

require (
	github.com/go-jose/go-jose/v4 v4.1.8
	github.com/google/go-cmp v0.7.0
	golang.org/x/oauth2 v0.37.0
	golang.org/x/sync v0.24.0
)
