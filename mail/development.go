package mail

import (
	"context"
	"log/slog"
)

// ToLog returns a Config.Deliver that writes letters to a log, with their codes and links. It is
// for development on loopback.
func ToLog(logger *slog.Logger) func(context.Context, *Letter) error {
	return func(ctx context.Context, letter *Letter) error {
		logger.InfoContext(ctx, "there is no mail server, so this message is only in the log", "to", letter.To, "subject", letter.Subject, "text", letter.Text)
		return nil
	}
}
