// Package mail sends messages to users. A message waits in an outbox until a mail server has
// accepted it, so that neither a restart nor an unavailable mail server loses it.
//
//	outbox.go   Outbox: Send, Deliver
//	message.go  Message and its kinds
//	address.go  which addresses are accepted
//	render.go   messages as HTML and plain text, with the operator's templates
//	words.go    the texts of the messages
//	smtp.go     delivery to a mail server
//	development.go  delivery to the log
package mail
