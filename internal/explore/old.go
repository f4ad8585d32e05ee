package explore

import (
	"errors"

	"github.com/jwtrenew/renew"
)

var errClock = errors.New("clock")

func hashOf(s *renew.Session) []byte { return s.RetryProof }
