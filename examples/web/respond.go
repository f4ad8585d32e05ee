package main

import (
	"encoding/json"
	"net/http"
)

func (s *site) writeJSON(w http.ResponseWriter, r *http.Request, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.logger.InfoContext(r.Context(), "writing response failed", "path", r.URL.Path, "error", err)
	}
}

func (s *site) writeError(w http.ResponseWriter, r *http.Request, status int, message string) {
	s.writeJSON(w, r, status, map[string]string{"message": message})
}

// fail is the response to an internal error. The page's client waits, and asks
// again.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.logger.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
	s.writeError(w, r, http.StatusInternalServerError, "internal error")
}
