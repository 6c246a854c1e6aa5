package mail

import (
	"bytes"
	"context"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/theme"
)

// The tests are in a package of their own, because storage/memory imports this one by way of
// identity.

const (
	MaxWaiting = maxWaiting
	MinDelay   = minDelay
)

var (
	ForSMTP   = forSMTP
	KindNames = kindNames
	Sample    = sample
)

func (o *Outbox) DeliverOne(ctx context.Context, m storage.Message) { o.deliver(ctx, m) }

func (o *Outbox) Open(m storage.Message) (Message, error) { return o.open(m) }

func (t *Templates) Letter(m *Message, service, base string) (*Letter, error) {
	return t.letter(m, service, base, theme.Default())
}

// Raw returns a letter as it is sent.
func Raw(letter *Letter) ([]byte, error) {
	message, err := compose(letter)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	_, err = message.WriteTo(&raw)
	return raw.Bytes(), err
}
