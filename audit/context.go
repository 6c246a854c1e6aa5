package audit

import "context"

// A change of a user, client or other record explains itself: the store compares it before and
// after. A change of tickets does not. So who changes tickets says what that means.

type recordKey struct{}

// WithRecord returns a context for one call of a store. If the call changes something, the store
// writes r in the same operation. For a call that changes a record of its own, such as UpdateUser,
// the store writes one record, with the event, subject, client and details of r if those are set.
func WithRecord(ctx context.Context, r Record) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

// RecordOf returns a copy of the record of a context.
func RecordOf(ctx context.Context) (Record, bool) {
	r, ok := ctx.Value(recordKey{}).(Record)
	return r, ok
}
