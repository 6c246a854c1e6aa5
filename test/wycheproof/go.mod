module github.com/valetkey/valetkey/test/wycheproof

go 1.26.4

require (
	github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a
	github.com/go-jose/go-jose/v4 v4.1.8
	github.com/valetkey/valetkey/oauth v0.1.0
)

replace github.com/valetkey/valetkey/oauth => ../../oauth
