package console

import "net/http"

// confirmView asks before something is ended or deleted. The form is sent to the same page.
type confirmView struct {
	ID, ETag, Title, Text, Button, Cancel string
}

func (v *visit) writeConfirm(w http.ResponseWriter, view confirmView) error {
	return v.write(w, http.StatusOK, "confirm", view.Title, view)
}
